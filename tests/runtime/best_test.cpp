// The best tokens without the rest: what step() and a full row would have given.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "runtime/sampling.h"
#include "tests/runtime/allocation_count.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

// By sorting everything.
std::vector<Candidate> best_of(std::span<const float> logits, size_t n) {
  std::vector<Candidate> all;
  for (size_t i = 0; i < logits.size(); ++i) all.push_back({logits[i], static_cast<int32_t>(i)});
  std::erase_if(all, [](const Candidate& c) { return !(c.logit > -INFINITY); });
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
  all.resize(n);
  return all;
}

void expect_same(std::span<const Candidate> got, std::span<const Candidate> want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].id, want[i].id) << "place " << i;
    EXPECT_EQ(got[i].logit, want[i].logit) << "place " << i;
  }
}

TEST(Best, TiesGoToTheLowestId) {
  const std::vector<float> logits = {1, 3, 2, 3, 3, 0, 2};
  std::vector<Candidate> best(4);
  keep_best(logits, 0, best);
  expect_same(best, best_of(logits, 4));
  EXPECT_EQ(best[0].id, 1);
  EXPECT_EQ(best[3].id, 2);
}

TEST(Best, ListsMergeInAnyOrder) {
  std::vector<float> logits;
  for (int i = 0; i < 300; ++i) logits.push_back(static_cast<float>(i * 7919 % 23));  // many ties
  std::vector<Candidate> low(9), high(9);
  keep_best(std::span(logits).first(120), 0, low);
  keep_best(std::span(logits).subspan(120), 120, high);
  std::vector<Candidate> one = low, other = high;
  for (const Candidate& c : high) keep_best(c, one);
  for (const Candidate& c : low) keep_best(c, other);
  expect_same(one, best_of(logits, 9));
  expect_same(other, one);
}

TEST(Best, NaNAndMinusInfinityAreNoCandidates) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits = {nan, -INFINITY, 2, nan, INFINITY};
  std::vector<Candidate> best(4);
  keep_best(logits, 0, best);
  EXPECT_EQ(best[0].id, 4);
  EXPECT_EQ(best[1].id, 2);
  EXPECT_EQ(best[2].logit, -INFINITY);
}

class StepBest : public testing::TestWithParam<std::pair<std::string, Code>> {};

TEST_P(StepBest, GivesTheBestOfStepsLogits) {
  const auto& [checkpoint, code] = GetParam();
  LAPIDARY_SKIP_WITHOUT(checkpoint_folder(checkpoint));
  const std::shared_ptr<const Model> model = quantized_model(checkpoint, code);
  const size_t vocab = static_cast<size_t>(model->config().vocab_size);
  std::vector<int32_t> ids(80);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>((i * 131 + 7) % vocab);
  for (const int n_threads : {1, 2}) {
    Engine engine(model, {.n_threads = n_threads, .max_batch_tokens = 80, .max_logits = 80});
    const std::vector<float> logits = logits_of(engine, ids, KvCode::kBF16);
    for (const int n_best : {1, 5, kMostBest})
      for (const size_t chunk : {size_t{1}, size_t{17}, ids.size()}) {
        const auto sequence = engine.new_sequence(80, KvCode::kBF16);
        for (size_t done = 0; done < ids.size(); done += chunk) {
          const size_t n = std::min(chunk, ids.size() - done);
          const BatchItem item{sequence.get(), std::span<const int32_t>(ids).subspan(done, n),
                               static_cast<int64_t>(n / 2)};
          const std::span<const Candidate> best = engine.step_best({&item, 1}, n_best);
          ASSERT_EQ(best.size(), (n - n / 2) * static_cast<size_t>(n_best));
          for (size_t t = n / 2; t < n; ++t)
            expect_same(best.subspan((t - n / 2) * static_cast<size_t>(n_best),
                                     static_cast<size_t>(n_best)),
                        best_of(std::span(logits).subspan((done + t) * vocab, vocab),
                                static_cast<size_t>(n_best)));
        }
      }
  }
}

TEST(Best, StepsAllocateNothing) {
  Engine engine(converted_model("nano-e"), {.n_threads = 2, .max_batch_tokens = 8});
  const auto sequence = engine.new_sequence(50, KvCode::kBF16);
  const std::vector<int32_t> ids(8, 7);
  const BatchItem item{sequence.get(), ids, 4};
  engine.step_best({&item, 1}, kMostBest);
  const int64_t before = allocation_count();
  engine.step_best({&item, 1}, kMostBest);
  engine.step_best({&item, 1}, 1);
  EXPECT_EQ(allocation_count() - before, 0);
}

INSTANTIATE_TEST_SUITE_P(, StepBest,
                         testing::Values(std::pair{"nano-e", Code::kW4},
                                         std::pair{"nano-e", Code::kBF16},
                                         std::pair{"tiny-llama3", Code::kW3}),
                         [](const auto& info) {
                           std::string name =
                               info.param.first + "_" + std::string(code_name(info.param.second));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Sampler, ChoosesTheSameFromTheBestAsFromAll) {
  std::vector<SamplingOptions> all(5);
  all[0].greedy = true;
  all[1].temperature = 0.0f;
  all[2].top_k = 1;
  all[3].top_k = kMostBest;
  all[3].top_p = 0.9f;
  all[4].top_k = 20;
  all[4].min_p = 0.05f;
  all[4].temperature = 0.7f;
  for (const SamplingOptions& options : all) {
    Sampler from_all(options, 5000), from_best(options, 5000);
    ASSERT_GT(from_best.n_best(), 0);
    for (uint32_t seed = 0; seed < 100; ++seed) {
      std::vector<float> logits(5000);
      for (uint32_t i = 0; i < logits.size(); ++i)
        logits[i] = static_cast<float>((i * 2654435761u ^ seed * 40503u) >> 16 & 0xfff) * 0.002f;
      const std::vector<Candidate> best = best_of(logits, static_cast<size_t>(from_best.n_best()));
      ASSERT_EQ(from_best.sample(best), from_all.sample(logits)) << "seed " << seed;
    }
  }
}

TEST(Sampler, AsksForAllLogitsWhereTheBestAreNotEnough) {
  SamplingOptions options;
  EXPECT_EQ(Sampler(options, 100).n_best(), 0);  // no top_k
  options.top_k = kMostBest + 1;
  EXPECT_EQ(Sampler(options, 100).n_best(), 0);
  options.greedy = true;
  EXPECT_EQ(Sampler(options, 100).n_best(), 1);
  options.repetition_penalty = 1.1f;  // may lift a token that is not among the best
  EXPECT_EQ(Sampler(options, 100).n_best(), 0);
}

}  // namespace
}  // namespace lapidary
