// Whether a measurement had the machine to itself.
//
// A timing taken while others compete is a figure of the others. Two things show it: threads of
// this process that could run and had to wait, and CPU time that went elsewhere (other processes,
// or the hypervisor). Both come from counters of the kernel, read before and after; the rule is a
// function of the two readings.
#pragma once

namespace lapidary {

// Counters since some fixed moment, in seconds.
struct MachineLoad {
  double wall = 0;
  double own = 0;     // CPU time of this process
  double waited = 0;  // its threads stood in a run queue; from schedstat, 0 where there is none
  double busy = 0;    // CPU time of everybody, interrupts included; from /proc/stat
  double stolen = 0;  // taken by the hypervisor
};

// Now, all processes of the machine. What the system does not tell stays 0.
MachineLoad machine_load();
int n_online_cpus();

// A measurement is disturbed when its threads got less than 96.5 % of the CPU time they could use,
// or when others and the hypervisor took more than 6 % of all CPUs' time beyond the resolution of
// the counters. Sleeping is no disturbance: who waits on purpose asks for no CPU.
bool is_disturbed(const MachineLoad& before, const MachineLoad& after, int n_cpus);

}  // namespace lapidary
