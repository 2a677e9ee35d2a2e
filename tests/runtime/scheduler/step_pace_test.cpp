// The pace of prompts beside answers, on machines that are a formula.
#include "runtime/scheduler/step_pace.h"

#include <gtest/gtest.h>

namespace lapidary {
namespace {

constexpr double kFixed = 0.04;

double step_seconds(double per_reading, int64_t n_tokens) {
  return kFixed * (1 + static_cast<double>(n_tokens) / per_reading);
}

// Sixteen prompts of 32 tokens at once, as a scheduler would read them.
StepPace after_steps(double per_reading, double first_factor) {
  StepPace pace;
  int64_t n_running = 0, n_left = 16 * 32;
  for (int step = 0; step < 12; ++step) {
    const int64_t n_prompt = std::min(n_left, pace.prompt_tokens(n_running, 256));
    const double factor = step == 0 ? first_factor : 1;
    pace.record(n_running, n_prompt, factor * step_seconds(per_reading, n_running + n_prompt));
    n_left -= n_prompt;
    n_running = 16 - (n_left + 31) / 32;
  }
  return pace;
}

TEST(StepPace, ReadsWholeStepsOfPromptsWhenNobodyWrites) {
  EXPECT_EQ(StepPace().prompt_tokens(0, 256), 256);
}

TEST(StepPace, LearnsWhatTokensCost) {
  for (const double per_reading : {10.0, 32.0, 100.0})
    EXPECT_NEAR(after_steps(per_reading, 1).tokens_per_reading(), per_reading, 1e-6 * per_reading);
}

// While prompts wait there is no step without one: a slow start must not make it crawl for ever.
TEST(StepPace, ForgetsThatTheFirstStepWaitedForTheDisk) {
  EXPECT_NEAR(after_steps(32, 30).tokens_per_reading(), 32, 1e-3);
}

TEST(StepPace, StretchesStepsThreefoldAtMost) {
  for (const double per_reading : {10.0, 32.0, 100.0}) {
    const StepPace pace = after_steps(per_reading, 1);
    for (const int64_t n_running : {1, 4, 16}) {
      const int64_t n_prompt = pace.prompt_tokens(n_running, 4096);
      const double without = step_seconds(per_reading, n_running);
      EXPECT_LE(step_seconds(per_reading, n_running + n_prompt), 3.001 * without);
      EXPECT_GT(step_seconds(per_reading, n_running + n_prompt), 2.5 * without);
    }
  }
}

TEST(StepPace, KeepsWithinBoundsWhateverTheClockSays) {
  StepPace pace;
  for (int64_t n = 1; n < 20; ++n) pace.record(1, n, 1.0 / static_cast<double>(n));
  EXPECT_GE(pace.prompt_tokens(1, 4096), 18);
  EXPECT_LE(pace.prompt_tokens(1, 4096), 2 * (128 + 1));
  StepPace still;
  for (int i = 0; i < 20; ++i) still.record(4, 0, 0.0);
  EXPECT_GE(still.prompt_tokens(4, 4096), 18);
}

}  // namespace
}  // namespace lapidary
