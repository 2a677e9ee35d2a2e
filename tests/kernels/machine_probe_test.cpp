// The probe answers with figures that a machine could have; how good they are is no test's matter.
#include "kernels/machine_probe.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lapidary {
namespace {

TEST(MachineProbe, GivesPlausibleFiguresOnEveryInstructionSet) {
  MachineProbe probe(2);
  EXPECT_EQ(probe.n_threads(), std::min(2, available_cores()));
  // From a phone's memory to beyond any server's; two threads.
  const double gbps = probe.read_gbps();
  EXPECT_GT(gbps, 0.1);
  EXPECT_LT(gbps, 2000);
  for (const KernelTable* table : available_kernels()) {
    const double tops = probe.int8_tops(table->isa);
    EXPECT_GT(tops, 1e-4) << table->name;
    EXPECT_LT(tops, 100) << table->name;
  }
}

TEST(MachineProbe, NamesTheCpu) {
  EXPECT_FALSE(cpu_name().empty());
  EXPECT_EQ(cpu_name().find('\0'), std::string::npos);
}

}  // namespace
}  // namespace lapidary
