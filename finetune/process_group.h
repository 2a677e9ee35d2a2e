// The processes of one data-parallel run, and the two sums they need. No LibTorch in this header.
//
// Rank, size and meeting point come from the environment, as `torchrun` and Slurm set them. Every
// process plans the same batches; each computes its rows, and gradients are summed before the
// optimizer's step, so that all keep the same adapter.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace lapidary {

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Each element becomes its sum over all processes, the same bits everywhere. Throws kIo when a
  // process is gone.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;
};

// Where the processes meet.
struct Rendezvous {
  int rank = 0, size = 1;
  std::string host;
  uint16_t port = 0;
  bool store_is_there = false;  // torchrun's agent serves it; else the first process does
  std::string round;            // restarts of one run must not read each other's keys
};
// Reads RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT (torchrun, Kubernetes), or else SLURM_PROCID,
// SLURM_STEP_NUM_TASKS and the first host of SLURM_STEP_NODELIST. Empty: this process is alone.
// Throws kUsage when the environment contradicts itself. `get`: as std::getenv.
using ReadVariable = std::function<const char*(const char*)>;
std::optional<Rendezvous> rendezvous_from(const ReadVariable& get);

// LibTorch's c10d over Gloo. Throws kIo when the others cannot be met.
std::unique_ptr<ProcessGroup> join(const Rendezvous& rendezvous);
// The group the environment names; null: alone.
std::unique_ptr<ProcessGroup> join_process_group();

}  // namespace lapidary
