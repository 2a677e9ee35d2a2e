// The plan of batches: shares to the token, rows within the context, nothing lost, one seed one
// plan.
#include "finetune/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "finetune/schedule.h"
#include "formats/error.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

std::vector<int64_t> random_lengths(size_t n, int64_t low, int64_t high, uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<int64_t> lengths(n);
  for (int64_t& length : lengths) length = random.between(low, high);
  return lengths;
}

std::vector<GeneralLengths> one(const std::vector<int64_t>& lengths) { return {{lengths, 1.0}}; }

TEST(Plan, KeepsTheGeneralShareToOneTokenAfterEveryStep) {
  const auto domain = random_lengths(300, 5, 120, 1), general = random_lengths(80, 10, 200, 2);
  for (const double share : {0.05, 0.15, 0.5}) {
    PlanOptions options;
    options.general_share = share;
    options.context = 256;
    options.epochs = 2;
    int64_t tokens = 0, general_tokens = 0;
    for (const PlannedStep& step : plan_training(domain, one(general), options)) {
      tokens += step.tokens;
      general_tokens += step.general_tokens;
      EXPECT_LE(std::abs(static_cast<double>(general_tokens) - share * static_cast<double>(tokens)),
                1.0);
    }
  }
}

TEST(Plan, CountsWhatItsRowsHoldAndFitsThemIntoTheContext) {
  const auto domain = random_lengths(100, 5, 256, 1), general = random_lengths(50, 5, 256, 2);
  PlanOptions options;
  options.context = 256;
  std::vector<PlannedStep> steps;
  for (const double share : {0.15, 0.9}) {
    options.general_share = share;
    for (const int64_t batch_tokens : {1000, 40}) {
      options.batch_tokens = batch_tokens;
      const auto more = plan_training(domain, one(general), options);
      steps.insert(steps.end(), more.begin(), more.end());
    }
  }
  for (const PlannedStep& step : steps) {
    int64_t tokens = 0, general_tokens = 0;
    for (const PlannedRow& row : step.rows) {
      int64_t in_row = 0;
      for (const PlannedExample& e : row) {
        const int64_t length = (e.source ? general : domain)[static_cast<size_t>(e.index)];
        EXPECT_LE(e.n_tokens, length);
        EXPECT_GT(e.n_tokens, 0);
        if (e.source == 0) {
          EXPECT_EQ(e.n_tokens, length) << "domain examples are never cut";
        }
        in_row += e.n_tokens;
        general_tokens += e.source ? e.n_tokens : 0;
      }
      EXPECT_LE(in_row, options.context);
      tokens += in_row;
    }
    EXPECT_EQ(tokens, step.tokens);
    EXPECT_EQ(general_tokens, step.general_tokens);
    EXPECT_LT(general_tokens, tokens) << "a step without a domain example";
  }
}

TEST(Plan, ShowsEveryDomainExampleOncePerEpochAndCutsFewGeneralOnes) {
  const auto domain = random_lengths(200, 5, 60, 1), general = random_lengths(200, 5, 60, 2);
  PlanOptions options;
  options.general_share = 0.2;
  options.epochs = 3;
  std::map<int64_t, int> seen;
  int64_t general_examples = 0, cut = 0;
  for (const PlannedStep& step : plan_training(domain, one(general), options))
    for (const PlannedRow& row : step.rows)
      for (const PlannedExample& e : row) {
        if (e.source == 0) ++seen[e.index];
        general_examples += e.source;
        cut += e.source && e.n_tokens < general[static_cast<size_t>(e.index)];
      }
  EXPECT_EQ(seen.size(), domain.size());
  for (const auto& [index, times] : seen) EXPECT_EQ(times, 3) << index;
  EXPECT_LT(cut * 10, general_examples);  // with 64 to choose from, a fitting one is mostly there
}

// A step of 200 tokens leaves 30 to general data, and no example is that short: each shows its
// beginning once before any does again.
TEST(Plan, ShowsAnotherBeginningEachTimeWhenNoGeneralExampleFits) {
  const auto domain = random_lengths(400, 5, 60, 1), general = random_lengths(40, 100, 200, 2);
  PlanOptions options;
  options.general_share = 0.15;
  options.batch_tokens = 200;
  std::map<int64_t, int> times;
  int64_t taken = 0;
  for (const PlannedStep& step : plan_training(domain, one(general), options))
    for (const PlannedRow& row : step.rows)
      for (const PlannedExample& e : row)
        if (e.source == 1) {
          ++times[e.index];
          ++taken;
        }
  EXPECT_EQ(times.size(), general.size());
  const auto [least, most] = std::minmax_element(
      times.begin(), times.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  EXPECT_LE(most->second - least->second, 1);
  EXPECT_GT(taken, 40);
}

TEST(Plan, DividesGeneralTokensByTheWeightsOfTheirSources) {
  const auto domain = random_lengths(400, 20, 120, 1);
  const auto first = random_lengths(50, 10, 90, 2), second = random_lengths(500, 10, 90, 3);
  const auto third = random_lengths(5, 10, 90, 4);
  const std::vector<GeneralLengths> sources{{first, 6}, {second, 3}, {third, 1}};
  PlanOptions options;
  options.general_share = 0.3;
  int64_t tokens[4] = {}, all = 0;
  for (const PlannedStep& step : plan_training(domain, sources, options)) {
    for (const PlannedRow& row : step.rows)
      for (const PlannedExample& e : row) tokens[e.source] += e.n_tokens;
    all += step.general_tokens;
    for (size_t i = 0; i < 3; ++i)  // within one example after every step
      EXPECT_NEAR(static_cast<double>(tokens[i + 1]),
                  sources[i].weight / 10 * static_cast<double>(all), 90);
  }
  EXPECT_GT(all, 5000);
}

TEST(Plan, FollowsTheSeedAndTheNumberOfSteps) {
  const auto domain = random_lengths(50, 5, 60, 1);
  PlanOptions options;
  options.steps = 7;
  const auto indices = [&](uint64_t seed) {
    options.seed = seed;
    std::vector<int64_t> all;
    const auto plan = plan_training(domain, {}, options);
    EXPECT_EQ(plan.size(), 7u);
    for (const auto& step : plan)
      for (const auto& row : step.rows)
        for (const auto& e : row) all.push_back(e.index);
    return all;
  };
  EXPECT_EQ(indices(1), indices(1));
  EXPECT_NE(indices(1), indices(2));
}

TEST(Plan, TakesAnExampleLongerThanTheBatchAlone) {
  const std::vector<int64_t> domain{100, 100};
  PlanOptions options;
  options.batch_tokens = 10;
  const auto plan = plan_training(domain, {}, options);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].tokens, 100);
}

TEST(Schedule, WarmsUpAndDecays) {
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kConstant, 2, 0, 4, 10), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kConstant, 2, 3, 4, 10), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kConstant, 2, 9, 4, 10), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kLinear, 2, 5, 0, 10), 1);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kLinear, 2, 7, 4, 10), 1);
  EXPECT_NEAR(learning_rate_at(Schedule::kCosine, 2, 5, 0, 10), 1, 1e-12);
  EXPECT_THROW(parse_schedule("step"), Error);
}

}  // namespace
}  // namespace lapidary
