// Linux's counters: /proc/stat for the machine, schedstat of each thread for the waiting.
#include "runtime/bench/disturbance.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace lapidary {
namespace {

constexpr double kLeastShareOfOwn = 0.965, kMostShareOfOthers = 0.06;
// /proc/stat counts in ticks of 10 ms per CPU.
constexpr double kTick = 0.01;

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Second field of schedstat: nanoseconds on a run queue.
double waited_by_threads() {
  double total = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::ifstream in(task.path() / "schedstat");
    double ran = 0, waited = 0;
    if (in >> ran >> waited) total += 1e-9 * waited;
  }
  return total;
}

}  // namespace

MachineLoad machine_load() {
  MachineLoad load;
  load.waited = waited_by_threads();
  std::ifstream in("/proc/stat");
  std::string label;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  if (in >> label >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal) {
    const double tick = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
    load.busy = (user + nice + system + irq + softirq) * tick;
    load.stolen = steal * tick;
  }
  load.own = seconds(CLOCK_PROCESS_CPUTIME_ID);
  load.wall = seconds(CLOCK_MONOTONIC);
  return load;
}

int n_online_cpus() { return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))); }

bool is_disturbed(const MachineLoad& before, const MachineLoad& after, int n_cpus) {
  const double own = after.own - before.own, waited = after.waited - before.waited;
  if (own < kLeastShareOfOwn * (own + waited)) return true;
  const double others = after.busy - before.busy - own + after.stolen - before.stolen;
  const double all = (after.wall - before.wall) * n_cpus;
  return others > kMostShareOfOthers * all + kTick * n_cpus;
}

}  // namespace lapidary
