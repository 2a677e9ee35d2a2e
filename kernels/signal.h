// A number that threads wait for: brief spin, then sleep on a futex.
//
// Spinning pays while the other side runs: the next matrix follows within microseconds, a sleeper
// takes tens of them to wake. It must be brief all the same. When another program shares the cores,
// the other side may be off its core for milliseconds; a sleeper then leaves its own core to that
// program, and the scheduler repays the time at the wake-up.
#pragma once

#include <atomic>
#include <cstdint>

namespace lapidary {

class Signal {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  // Changes the value and wakes up to `most` sleepers; no system call when nobody sleeps.
  void raise(int most);
  // Returns when the value is no longer `seen`. What was written before raise() is visible then.
  void wait(uint32_t seen);

 private:
  alignas(64) std::atomic<uint32_t> value_{0};
  std::atomic<int32_t> sleepers_{0};
};

}  // namespace lapidary
