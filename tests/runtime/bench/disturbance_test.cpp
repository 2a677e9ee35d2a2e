// The rule of disturbance, on made-up readings, and that the system's counters can be read at all.
#include "runtime/bench/disturbance.h"

#include <gtest/gtest.h>

namespace lapidary {
namespace {

constexpr int kCpus = 2;

// Ten seconds on two CPUs of which this process used `own`, and others as given.
bool disturbed(double own, double waited, double others, double stolen) {
  const MachineLoad before{100, 50, 3, 80, 1};
  return is_disturbed(before, {110, 50 + own, 3 + waited, 80 + own + others, 1 + stolen}, kCpus);
}

TEST(Disturbance, AQuietMachineIsClean) {
  EXPECT_FALSE(disturbed(20, 0, 0, 0));
  EXPECT_FALSE(disturbed(20, 0.1, 0, 0));
}

TEST(Disturbance, SleepingThreadsAreNoDisturbance) { EXPECT_FALSE(disturbed(4, 0, 0.3, 0)); }

TEST(Disturbance, WaitingForACpuIs) {
  EXPECT_FALSE(disturbed(19.4, 0.6, 0, 0));  // 97 % of what it could use
  EXPECT_TRUE(disturbed(19.2, 0.8, 0, 0));   // 96 %
}

TEST(Disturbance, OthersMayTakeSixPercentOfAllCpus) {
  EXPECT_FALSE(disturbed(10, 0, 1.1, 0));
  EXPECT_TRUE(disturbed(10, 0, 1.3, 0));
  EXPECT_TRUE(disturbed(10, 0, 0, 1.3));  // the hypervisor as well
  EXPECT_TRUE(disturbed(10, 0, 0.7, 0.6));
}

TEST(Disturbance, ShortMeasurementsForgiveTheTicksOfTheCounters) {
  const MachineLoad before{};
  EXPECT_FALSE(is_disturbed(before, {0.05, 0.1, 0, 0.115, 0}, kCpus));
  EXPECT_TRUE(is_disturbed(before, {0.05, 0.1, 0, 0.15, 0}, kCpus));
}

TEST(Disturbance, CountersOfThisMachineGoForward) {
  const MachineLoad before = machine_load();
  volatile double x = 1;
  for (int i = 0; i < 20'000'000; ++i) x = x * 1.0000001;
  const MachineLoad after = machine_load();
  EXPECT_GT(after.wall, before.wall);
  EXPECT_GT(after.own, before.own);
  EXPECT_GE(after.waited, before.waited);
  EXPECT_GE(after.busy, before.busy);
  EXPECT_GE(n_online_cpus(), 1);
}

}  // namespace
}  // namespace lapidary
