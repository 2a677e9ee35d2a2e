// What a step refuses, that a refusal changes nothing, and that a step allocates nothing.
#include "runtime/engine.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/runtime/allocation_count.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

class EngineSteps : public testing::Test {
 protected:
  EngineOptions options() const {
    EngineOptions options;
    options.n_threads = 2;
    options.max_batch_tokens = 16;
    options.max_logits = 4;
    return options;
  }
  std::shared_ptr<const Model> model_ = converted_model("nano-e");
  Engine engine_{model_, options()};
};

ErrorCode code_of(Engine& engine, std::span<const BatchItem> batch) {
  try {
    engine.step(batch);
  } catch (const Error& e) {
    return e.code();
  }
  return ErrorCode::kInternal;
}

TEST_F(EngineSteps, RefusesWithoutChangingAnything) {
  const auto sequence = engine_.new_sequence(12, KvCode::kF32);
  const auto other = engine_.new_sequence(12, KvCode::kF32);
  const std::vector<int32_t> ids = {2,   100, 200, 300,  400,  500, 600,
                                    700, 800, 900, 1000, 1100, 1200};
  const std::span<const int32_t> some = ids;
  const BatchItem first{sequence.get(), some.first(3), 2};
  const std::span<const float> logits = engine_.step({&first, 1});
  const std::vector<float> before(logits.begin(), logits.end());

  const std::vector<int32_t> below = {5, -1}, above = {8192};
  const BatchItem negative{sequence.get(), below, 0}, too_large{sequence.get(), above, 0};
  EXPECT_EQ(code_of(engine_, {&negative, 1}), ErrorCode::kBadData);
  EXPECT_EQ(code_of(engine_, {&too_large, 1}), ErrorCode::kBadData);
  const BatchItem overfull{sequence.get(), some.first(10), 10}, empty{sequence.get(), {}, 0};
  EXPECT_EQ(code_of(engine_, {&overfull, 1}), ErrorCode::kUsage);
  EXPECT_EQ(code_of(engine_, {&empty, 1}), ErrorCode::kUsage);
  const BatchItem greedy{sequence.get(), some.first(6), 1};
  EXPECT_EQ(code_of(engine_, {&greedy, 1}), ErrorCode::kUsage);  // five logits
  const BatchItem twice[] = {{sequence.get(), some.first(1), 1},
                             {sequence.get(), some.first(1), 1}};
  EXPECT_EQ(code_of(engine_, twice), ErrorCode::kUsage);
  const BatchItem wide[] = {{sequence.get(), some.first(8), 8}, {other.get(), some.first(9), 9}};
  EXPECT_EQ(code_of(engine_, wide), ErrorCode::kUsage);  // 17 tokens
  // The second item is bad: the first must not have been computed.
  const BatchItem mixed[] = {{other.get(), some.first(2), 2}, {sequence.get(), below, 0}};
  EXPECT_EQ(code_of(engine_, mixed), ErrorCode::kBadData);
  EXPECT_EQ(sequence->length(), 3);
  EXPECT_EQ(other->length(), 0);

  const BatchItem again{other.get(), some.first(3), 2};
  const std::span<const float> after = engine_.step({&again, 1});
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin(), after.end()));
}

TEST_F(EngineSteps, AllocateNothing) {
  const auto sequence = engine_.new_sequence(200, KvCode::kBF16);
  const auto other = engine_.new_sequence(200, *parse_kv({"k4v4", "0,0", "k8v8", "", false}));
  const std::vector<int32_t> ids(100, 7);
  const auto step = [&](size_t n) {
    const BatchItem batch[] = {{sequence.get(), std::span(ids).first(n), 0},
                               {other.get(), std::span(ids).first(1), 1}};
    engine_.step(batch);
  };
  for (int i = 0; i < 62; ++i) {  // the fourth step from here packs and reads a page
    const BatchItem item{other.get(), std::span(ids).first(1), 1};
    engine_.step({&item, 1});
  }
  step(1);  // threads may set themselves up at their first work
  const int64_t before = allocation_count();
  step(1);
  step(4);
  step(2);
  EXPECT_EQ(allocation_count() - before, 0);
}

// Prompts and single tokens, dense and with experts.
TEST(Engine, AllocatesNothingInAStep) {
  for (const std::string checkpoint : {"nano-e", "small-moe"}) {
    if (checkpoint_folder(checkpoint).empty()) continue;  // outside the clone
    for (const Code code : {Code::kBF16, Code::kW4}) {
      Engine engine(quantized_model(checkpoint, code), {.n_threads = 2, .max_batch_tokens = 64});
      const auto sequence = engine.new_sequence(200, KvCode::kBF16);
      const auto other = engine.new_sequence(200, KvCode::kBF16);
      const std::vector<int32_t> ids(100, 7);
      const auto step = [&](size_t n) {
        const BatchItem batch[] = {{sequence.get(), std::span(ids).first(n), 0},
                                   {other.get(), std::span(ids).first(1), 1}};
        engine.step(batch);
      };
      step(1);  // threads may set themselves up at their first work
      const int64_t before = allocation_count();
      step(1);
      step(40);
      step(2);
      EXPECT_EQ(allocation_count() - before, 0) << checkpoint << " " << code_name(code);
    }
  }
}

// nano-e's last layers read K and V of earlier ones.
TEST(Engine, RunsSharingLayersForWantedTokensOnly) {
  const std::shared_ptr<const Model> model = converted_model("nano-e");
  const ModelConfig& config = model->config();
  int last_own = 0;
  for (int l = 0; l < config.n_layers(); ++l)
    if (config.owns_kv(l)) last_own = l;
  ASSERT_LT(last_own, config.n_layers() - 1);
  Engine engine(model, {.n_threads = 2, .max_batch_tokens = 16});
  std::vector<int64_t> n_tokens;  // by tap: the embedding, every layer, the final norm
  engine.set_tap([&](int layer, const float*, int64_t n) {
    n_tokens.resize(static_cast<size_t>(layer) + 1, -1);
    n_tokens.back() = n;
  });
  const std::vector<int32_t> ids(10, 7);
  for (const int64_t n_wanted : {0, 1, 3, 10}) {
    n_tokens.clear();
    const auto sequence = engine.new_sequence(20, KvCode::kBF16);
    const BatchItem item{sequence.get(), ids, 10 - n_wanted};
    EXPECT_EQ(engine.step({&item, 1}).size(),
              static_cast<size_t>(n_wanted) * static_cast<size_t>(config.vocab_size));
    // The last layer with K and V of its own needs its input only, and nobody's output but theirs.
    std::vector<int64_t> want(static_cast<size_t>(last_own) + 1, 10);
    if (n_wanted > 0) want.resize(static_cast<size_t>(config.n_layers()) + 2, n_wanted);
    EXPECT_EQ(n_tokens, want);
  }
}

TEST_F(EngineSteps, WorkForSequencesOfALargerEngineOfTheSameModel) {
  EngineOptions larger = options();
  larger.max_batch_tokens = 64;
  const Engine maker(model_, larger);
  const auto sequence = maker.new_sequence(5000, KvCode::kBF16);
  const std::vector<int32_t> ids(16, 7);
  const BatchItem item{sequence.get(), ids, 15};
  EXPECT_EQ(engine_.step({&item, 1}).size(), 8192u);
}

TEST(EngineOptions, OutOfRangeAreUsageErrors) {
  EngineOptions options;
  options.max_batch_tokens = 0;
  EXPECT_THROW(Engine(converted_model("nano-e"), options), Error);
  options.max_batch_tokens = 8;
  options.max_logits = -1;
  EXPECT_THROW(Engine(converted_model("nano-e"), options), Error);
}

}  // namespace
}  // namespace lapidary
