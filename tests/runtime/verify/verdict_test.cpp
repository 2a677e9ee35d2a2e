// The rules of a verdict on synthetic measurements.
#include "runtime/verify/verdict.h"

#include <gtest/gtest.h>

#include "formats/error.h"
#include "runtime/verify/statistics.h"

namespace lapidary {
namespace {

TextComparison text(double loss, double low, double high, int64_t tokens) {
  TextComparison t;
  t.tokens = tokens;
  t.nll_base = 2.0;
  t.nll_candidate = 2.0 + loss;
  t.interval[0] = low;
  t.interval[1] = high;
  t.kld_mean = 0.01;
  t.top1_agreement = 0.9;
  return t;
}

TaskComparison task(int64_t items, int64_t lost, int64_t gained) {
  TaskComparison t;
  t.items = items;
  t.base_only = lost;
  t.candidate_only = gained;
  t.difference = static_cast<double>(gained - lost) / static_cast<double>(items);
  const Interval interval = tango_interval(lost, gained, items);
  t.interval[0] = interval.first;
  t.interval[1] = interval.second;
  return t;
}

VerifyResult judged(std::optional<TextComparison> measured,
                    std::map<std::string, TaskComparison> tasks = {}) {
  VerifyResult result;
  result.text = std::move(measured);
  result.tasks = std::move(tasks);
  judge(result);
  return result;
}

TEST(Verdict, OfTextFollowsTheTable) {
  const struct {
    double loss, low, high;
    int64_t tokens;
    Verdict expected;
    const char* why;
  } cases[] = {
      {0.001, -0.002, 0.004, 5000, Verdict::kPass, "worst bound within"},
      {-0.10, -0.20, -0.05, 5000, Verdict::kPass, "a gain is no loss"},
      {0.010, 0.005, 0.015, 5000, Verdict::kPass, "a proven loss within the margin"},
      {0.010, 0.005, 0.020, 5000, Verdict::kPass, "worst bound on the margin"},
      {0.050, 0.020, 0.080, 5000, Verdict::kFail, "exceeds and excludes zero"},
      {0.050, 0.001, 0.099, 100, Verdict::kFail, "a few tokens can fail"},
      {0.050, -0.01, 0.110, 5000, Verdict::kInconclusive, "exceeds but may be chance"},
      {0.015, 0.005, 0.025, 5000, Verdict::kInconclusive, "margin inside the interval"},
      {0.001, -0.002, 0.004, 1999, Verdict::kInconclusive, "too few tokens"},
      {0.001, -0.002, 0.004, 2000, Verdict::kPass, "just enough tokens"},
  };
  for (const auto& c : cases) {
    const VerifyResult result = judged(text(c.loss, c.low, c.high, c.tokens));
    EXPECT_EQ(result.verdict, c.expected) << c.why;
    ASSERT_EQ(result.reasons.size(), 1u);
  }
}

TEST(Verdict, OfTasksFollowsTheTable) {
  const struct {
    int64_t items, lost, gained;
    Verdict expected;
  } cases[] = {
      {1000, 0, 0, Verdict::kPass},        {50, 0, 0, Verdict::kInconclusive},
      {1000, 5, 4, Verdict::kPass},        {1000, 60, 10, Verdict::kFail},
      {100, 6, 3, Verdict::kInconclusive}, {1000, 19, 2, Verdict::kInconclusive},
      {1000, 10, 60, Verdict::kPass},
  };
  for (const auto& c : cases) {
    const VerifyResult result = judged({}, {{"sort", task(c.items, c.lost, c.gained)}});
    EXPECT_EQ(result.verdict, c.expected) << c.items << ' ' << c.lost << ' ' << c.gained;
  }
}

TEST(Verdict, HoldsThePooledItemsToTheirOwnMargin) {
  // Losing 1.1 of 100 is within 2 points but not within 1.
  EXPECT_EQ(judged({}, {{"sort", task(4000, 45, 0)}}).verdict, Verdict::kPass);
  EXPECT_EQ(judged({}, {{"pooled", task(4000, 45, 0)}}).verdict, Verdict::kFail);
}

TEST(Verdict, IsTheWorstOfAllMeasuresAndTellsItFirst) {
  const VerifyResult result =
      judged(text(0.001, -0.002, 0.004, 5000),
             {{"add", task(1000, 0, 0)}, {"sort", task(1000, 90, 10)}, {"tool", task(50, 0, 0)}});
  EXPECT_EQ(result.verdict, Verdict::kFail);
  ASSERT_EQ(result.reasons.size(), 4u);
  EXPECT_NE(result.reasons[0].find("'sort'"), std::string::npos);
  EXPECT_NE(result.reasons[0].find("-8.00 points"), std::string::npos);
  EXPECT_NE(result.reasons[1].find("'tool'"), std::string::npos);
  EXPECT_NE(result.reasons[2].find("Text"), std::string::npos);
}

TEST(Verdict, NamesTheSampleSizeThatWouldDecide) {
  // Half-width 0.01, distance 0.005 to the margin: four times the tokens.
  EXPECT_NE(judged(text(0.015, 0.005, 0.025, 5000)).reasons[0].find("20,000 tokens"),
            std::string::npos);
  // To fail, the half-width 0.06 must shrink to the loss of 0.05: 1.44 times, rounded up.
  EXPECT_NE(judged(text(0.05, -0.01, 0.11, 5000)).reasons[0].find("7,200 tokens"),
            std::string::npos);
  EXPECT_NE(judged(text(0.001, -0.002, 0.004, 200)).reasons[0].find("at least 2,000"),
            std::string::npos);
  EXPECT_NE(judged({}, {{"sort", task(50, 0, 0)}}).reasons[0].find("190 items"), std::string::npos);
  EXPECT_NE(judged({}, {{"sort", task(100, 2, 0)}}).reasons[0].find("no practical number"),
            std::string::npos);
}

TEST(Verdict, WarnsWhenNeitherModelCanDoATask) {
  TaskComparison hopeless = task(1000, 0, 0), able = hopeless;
  able.base = able.candidate = 0.9;
  EXPECT_NE(judged({}, {{"add", hopeless}}).reasons[0].find("says little"), std::string::npos);
  EXPECT_EQ(judged({}, {{"add", able}}).reasons[0].find("says little"), std::string::npos);
}

TEST(Verdict, PassesIdenticalModelsAtAnySize) {
  VerifyResult result;
  result.identical = true;
  result.text = text(0, 0, 0, 10);
  result.text->kld_mean = 0;
  result.text->top1_agreement = 1;
  result.tasks = {{"sort", task(3, 0, 0)}, {"pooled", task(3, 0, 0)}};
  judge(result);
  EXPECT_EQ(result.verdict, Verdict::kPass);
}

TEST(Verdict, RefusesIdenticalModelsThatDiffer) {
  VerifyResult result;
  result.identical = true;
  result.text = text(1e-12, 0, 0, 5000);
  EXPECT_THROW(judge(result), Error);
  result.text.reset();
  result.tasks = {{"sort", task(1000, 1, 0)}};
  try {
    judge(result);
    FAIL() << "accepted a flip between identical models";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInternal);
  }
}

TEST(Verdict, RefusesToJudgeNothing) {
  VerifyResult result;
  EXPECT_THROW(judge(result), Error);
}

TEST(Verdict, HasFixedNamesAndExitStatuses) {
  EXPECT_EQ(verdict_name(Verdict::kPass), "PASS");
  EXPECT_EQ(verdict_name(Verdict::kFail), "FAIL");
  EXPECT_EQ(verdict_name(Verdict::kInconclusive), "INCONCLUSIVE");
  EXPECT_EQ(verdict_exit_status(Verdict::kPass), 0);
  EXPECT_EQ(verdict_exit_status(Verdict::kFail), 1);
  EXPECT_EQ(verdict_exit_status(Verdict::kInconclusive), 2);
}

}  // namespace
}  // namespace lapidary
