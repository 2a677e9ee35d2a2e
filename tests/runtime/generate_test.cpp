// How generation ends, and that it neither depends on chunks nor on chance beyond the seed.
#include "runtime/generate.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

const std::vector<int32_t> kPrompt = {2, 100, 200, 300, 400, 500, 600, 700};

class Generate : public testing::Test {
 protected:
  static EngineOptions options() {
    EngineOptions options;
    options.n_threads = 2;
    options.max_batch_tokens = 3;  // the prompt takes three chunks
    return options;
  }
  GenerateResult run(const GenerateOptions& options, int64_t capacity = 100,
                     const Events& events = {}) {
    const auto sequence = engine_.new_sequence(capacity, KvCode::kF32);
    return generate(engine_, *sequence, kPrompt, options, events);
  }
  static GenerateOptions greedy(int64_t max_tokens) {
    GenerateOptions options;
    options.max_tokens = max_tokens;
    options.sampling.greedy = true;
    return options;
  }
  Engine engine_{converted_model("nano-e"), options()};
};

TEST_F(Generate, EndsAtMaxTokens) {
  const GenerateResult result = run(greedy(5));
  EXPECT_EQ(result.tokens.size(), 5u);
  EXPECT_EQ(result.finish_reason, "length");
  EXPECT_TRUE(run(greedy(0)).tokens.empty());
}

TEST_F(Generate, EndsAtAStopTokenAndKeepsIt) {
  const std::vector<int32_t> all = run(greedy(5)).tokens;
  GenerateOptions options = greedy(5);
  options.stop_ids = {all[2]};
  std::vector<int32_t> streamed;
  options.on_token = [&](int32_t id) { streamed.push_back(id); };
  const GenerateResult result = run(options);
  EXPECT_EQ(result.finish_reason, "stop");
  const auto end = std::find(all.begin(), all.end(), all[2]) + 1;
  EXPECT_EQ(result.tokens, std::vector<int32_t>(all.begin(), end));
  EXPECT_EQ(streamed, result.tokens);
}

TEST_F(Generate, EndsWhenTheContextIsFull) {
  const GenerateResult result = run(greedy(50), 10);
  EXPECT_EQ(result.finish_reason, "context");
  // Two more tokens fit, and the last one's logits still name a third.
  EXPECT_EQ(result.tokens.size(), 3u);
}

TEST_F(Generate, GoesOnInTheSameSequence) {
  const std::vector<int32_t> all = run(greedy(6)).tokens;
  const auto sequence = engine_.new_sequence(100, KvCode::kF32);
  const GenerateResult first = generate(engine_, *sequence, kPrompt, greedy(3));
  EXPECT_EQ(sequence->length(), static_cast<int64_t>(kPrompt.size()) + 2);
  const GenerateResult second =
      generate(engine_, *sequence, std::span(&first.tokens.back(), 1), greedy(3));
  EXPECT_EQ(second.tokens, std::vector<int32_t>(all.begin() + 3, all.end()));
}

TEST_F(Generate, SeedFixesSampledTokens) {
  GenerateOptions options;
  options.max_tokens = 12;
  options.sampling.seed = 3;
  const std::vector<int32_t> once = run(options).tokens;
  EXPECT_EQ(run(options).tokens, once);
  options.sampling.seed = 4;
  EXPECT_NE(run(options).tokens, once);
}

TEST_F(Generate, RefusesPromptsThatCannotBe) {
  const auto sequence = engine_.new_sequence(4, KvCode::kF32);
  EXPECT_THROW(generate(engine_, *sequence, kPrompt, {}), Error);
  EXPECT_THROW(generate(engine_, *sequence, {}, {}), Error);
  EXPECT_EQ(sequence->length(), 0);
}

TEST_F(Generate, StopsWhenCancelled) {
  std::atomic<bool> cancelled{false};
  Events events;
  events.cancelled = &cancelled;
  GenerateOptions options = greedy(50);
  int n = 0;
  options.on_token = [&](int32_t) { cancelled = ++n == 3; };
  try {
    run(options, 100, events);
    FAIL() << "was not interrupted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInterrupted);
  }
  EXPECT_EQ(n, 3);
}

}  // namespace
}  // namespace lapidary
