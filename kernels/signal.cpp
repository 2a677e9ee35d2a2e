// Spin and futex.
#include "kernels/signal.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>

namespace lapidary {
namespace {

// Longer than the gaps between the matrices of a token, short beside a scheduler's time slice.
constexpr std::chrono::microseconds kSpin{50};
constexpr int kPausesPerClockRead = 32;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The kernel sees the atomic as a plain word.
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
void futex(const std::atomic<uint32_t>& word, int operation, uint32_t argument) {
  syscall(SYS_futex, &word, operation, argument, nullptr, nullptr, 0);
}

}  // namespace

// Either the raiser sees the sleeper counted, or the sleeper sees the value changed (at the latest
// the kernel does, which compares before it puts the thread to sleep): both sides write, then read,
// in one total order.
void Signal::raise(int most) {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0)
    futex(value_, FUTEX_WAKE_PRIVATE, static_cast<uint32_t>(most));
}

void Signal::wait(uint32_t seen) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (value() != seen) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (value_.load(std::memory_order_seq_cst) == seen) futex(value_, FUTEX_WAIT_PRIVATE, seen);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace lapidary
