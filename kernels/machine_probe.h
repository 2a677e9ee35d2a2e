// What the machine at hand can do at most: read memory, multiply 8-bit integers. The two roofs that
// `bench` measures a model against, in the same run, because clocks and neighbours change.
//
// Read bandwidth: all threads load a buffer far larger than caches, two streams each, fetching
// ahead. Integer peak: the instruction set's own multiply-add in registers, independent sums, no
// memory; what no kernel of that instruction set can beat.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"

namespace lapidary {

class MachineProbe {
 public:
  // Keeps a buffer of 512 MiB and its own threads; <= 0: one per core. Throws kOutOfMemory.
  explicit MachineProbe(int n_threads);
  ~MachineProbe();

  int n_threads() const;
  // One pass each, some 10 ms. A pass may be disturbed: take the best of several.
  double read_gbps();         // 1e9 bytes per second
  double int8_tops(Isa isa);  // 1e12 operations per second, two per multiply-add; 0: not known.
                              // REQUIRES: a table of available_kernels() has this `isa`.

 private:
  struct Unmap {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Unmap> buffer_;
  ThreadPool pool_;
};

// As the CPU names itself; "unknown" where it does not.
std::string cpu_name();

}  // namespace lapidary
