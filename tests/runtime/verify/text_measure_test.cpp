// The text measure on models whose distributions are known.
#include "runtime/verify/text_measure.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/verify/log_softmax.h"
#include "tests/runtime/verify/fake_scorer.h"

namespace lapidary {
namespace {

const std::string kText =
    "The quick brown fox jumps over the lazy dog. A second sentence follows the first one, and a "
    "third "
    "one ends the passage. Numbers such as 12345 and words such as lapidary are cut into pieces.";

void uniform(std::span<const int32_t>, std::span<float>) {}

// Some logits that depend on the last token and the position, scaled by `strength`.
FakeScorer::Rule wavy(float strength) {
  return [strength](std::span<const int32_t> history, std::span<float> row) {
    for (size_t i = 0; i < row.size(); ++i)
      row[i] =
          strength * std::sin(static_cast<float>(i) * 0.37f + static_cast<float>(history.back()) +
                              0.1f * static_cast<float>(history.size()));
  };
}

TEST(LogSoftmax, MatchesHandComputedRows) {
  const std::vector<float> row = {0.0f, 1.0f, 2.0f};
  const double sum = 1 + std::exp(1.0) + std::exp(2.0);
  EXPECT_NEAR(negative_log_likelihood(row, 2), std::log(sum) - 2, 1e-15);
  // Large logits must not overflow: the same distribution shifted by 1000.
  const std::vector<float> shifted = {1000.0f, 1001.0f, 1002.0f};
  EXPECT_NEAR(negative_log_likelihood(shifted, 2), std::log(sum) - 2, 1e-12);

  const std::vector<float> other = {0.5f, 0.5f, 0.5f};
  double kld = 0;
  for (int i = 0; i < 3; ++i) {
    const double p = std::exp(static_cast<double>(i)) / sum;
    kld += p * (std::log(p) - std::log(1.0 / 3));
  }
  PairedSoftmax softmax;
  const PairedToken token = softmax.compare(row, other, 0);
  EXPECT_NEAR(token.kld, kld, 1e-15);
  EXPECT_NEAR(token.nll_candidate, std::log(3.0), 1e-15);
  EXPECT_FALSE(token.same_top);  // ties go to the lowest id
  EXPECT_EQ(softmax.compare(row, row, 1).kld, 0.0);
}

TEST(LogSoftmax, RefusesLogitsThatAreNotNumbers) {
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{0.0f, std::nanf("")}, 0), Error);
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{0.0f, HUGE_VALF}, 0), Error);
}

TEST(MeasureText, GivesLogVocabularyForAUniformModel) {
  FakeScorer model(uniform);
  const TextResult result = measure_text(model, kText, {}, {});
  EXPECT_EQ(result.tokens, static_cast<int64_t>(nano_tokenizer().encode(kText).size()));
  EXPECT_NEAR(result.nll, std::log(8192.0), 1e-12);
  EXPECT_NEAR(result.perplexity, 8192.0, 1e-8);
}

TEST(MeasureText, PutsBosBeforeEachWindowAndPredictsEveryToken) {
  const std::vector<int32_t> tokens = nano_tokenizer().encode(kText);
  for (const int64_t context : {2, 3, 8, 11, 2048}) {
    FakeScorer model(uniform, 3);
    EXPECT_EQ(measure_text(model, kText, {.context = context}, {}).tokens,
              static_cast<int64_t>(tokens.size()));
    size_t at = 0;
    for (const auto& window : model.seen()) {
      EXPECT_EQ(window[0], 2);
      // BOS and all but the last token of the window, whose successor is in the next.
      ASSERT_LE(at + window.size(), tokens.size());
      for (size_t i = 1; i < window.size(); ++i) EXPECT_EQ(window[i], tokens[at + i - 1]);
      at += window.size();
    }
    EXPECT_EQ(at, tokens.size()) << context;
  }
}

TEST(MeasureText, DoesNotDependOnTheChunkSize) {
  FakeScorer one(wavy(2.0f), 1), many(wavy(2.0f), 1000);
  EXPECT_EQ(measure_text(one, kText, {.context = 20}, {}).nll,
            measure_text(many, kText, {.context = 20}, {}).nll);
  EXPECT_GT(one.n_appends, many.n_appends);
}

TEST(MeasureText, KeepsTheFirstTokensOfALimit) {
  FakeScorer model(uniform);
  EXPECT_EQ(measure_text(model, kText, {.limit_tokens = 7}, {}).tokens, 7);
  EXPECT_LT(measure_text(model, kText, {.limit_tokens = 100000}, {}).tokens, 1000);
}

TEST(MeasureText, RefusesEmptyTextAndBadOptions) {
  FakeScorer model(uniform);
  EXPECT_THROW(measure_text(model, "", {}, {}), Error);
  EXPECT_THROW(measure_text(model, kText, {.context = 1}, {}), Error);
  EXPECT_THROW(measure_text(model, kText, {.limit_tokens = -1}, {}), Error);
}

TEST(MeasureText, StopsWhenCancelled) {
  FakeScorer model(uniform, 4);
  const std::atomic<bool> cancelled{true};
  Events events;
  events.cancelled = &cancelled;
  EXPECT_THROW(measure_text(model, kText, {}, events), Error);
}

TEST(CompareText, GivesExactlyZeroForEqualModels) {
  FakeScorer base(wavy(3.0f)), candidate(wavy(3.0f), 5);
  const TextComparison result = compare_text(base, candidate, kText, {.context = 16}, {});
  EXPECT_EQ(result.nll_base, result.nll_candidate);
  EXPECT_EQ(result.interval[0], 0.0);
  EXPECT_EQ(result.interval[1], 0.0);
  EXPECT_EQ(result.kld_mean, 0.0);
  EXPECT_EQ(result.kld_p99, 0.0);
  EXPECT_EQ(result.top1_agreement, 1.0);
}

TEST(CompareText, AgreesWithMeasuringEachModelAlone) {
  FakeScorer base(wavy(4.0f)), candidate(wavy(2.0f));
  const TextComparison result = compare_text(base, candidate, kText, {.context = 16}, {});
  EXPECT_DOUBLE_EQ(result.nll_base, measure_text(base, kText, {.context = 16}, {}).nll);
  EXPECT_DOUBLE_EQ(result.nll_candidate, measure_text(candidate, kText, {.context = 16}, {}).nll);
  const double difference = result.nll_candidate - result.nll_base;
  EXPECT_LT(result.interval[0], difference);
  EXPECT_GT(result.interval[1], difference);
  EXPECT_GT(result.kld_mean, 0.0);
  EXPECT_LE(result.kld_median, result.kld_p99);
  EXPECT_EQ(result.top1_agreement, 1.0);  // halving logits is exact and moves no maximum
  EXPECT_EQ(result.kld.size(), static_cast<size_t>(result.tokens));
}

TEST(CompareText, HasAnUncertaintyForAFewTokensToo) {
  FakeScorer base(wavy(3.0f)), candidate(wavy(2.0f));
  const TextComparison few = compare_text(base, candidate, kText, {.limit_tokens = 2}, {});
  const TextComparison more = compare_text(base, candidate, kText, {}, {});
  EXPECT_GT(few.interval[1] - few.interval[0], more.interval[1] - more.interval[0]);
  EXPECT_THROW(compare_text(base, candidate, kText, {.limit_tokens = 1}, {}), Error);
}

TEST(CompareText, RefusesOtherVocabulariesAndOtherStarts) {
  FakeScorer base(uniform), smaller(uniform), other_bos(uniform);
  smaller.metadata_.config.vocab_size = 8000;
  EXPECT_THROW(compare_text(base, smaller, kText, {}, {}), Error);
  other_bos.metadata_.config.bos_id = 1;
  EXPECT_THROW(compare_text(base, other_bos, kText, {}, {}), Error);
}

}  // namespace
}  // namespace lapidary
