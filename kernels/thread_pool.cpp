// The pool: workers claim runs of items from one shared counter.
//
// `unclaimed` is the only way to get work: whoever lowers it from r to r - m owns the items
// [n_items - r, n_items - r + m). While an owned item is unfinished the run cannot end, so the
// other fields of the run stay as they are; a worker that comes late finds `unclaimed` at zero, or
// owns items of the next run, and both are right. Claims shrink as the run nears its end, so that
// few atomic operations are made and no thread is left with a long rest.
//
// Between runs a worker spins for a short time, because the next matmul follows within
// microseconds, then sleeps on a futex (std::atomic::wait).
#include "kernels/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "formats/error.h"

namespace lapidary {
namespace {

// Longer than the gaps between the matmuls of a token, short beside a scheduler's time slice.
constexpr std::chrono::microseconds kSpin{50};
constexpr int kPausesPerClockRead = 32;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`.
void wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old, bool may_spin) {
  if (may_spin) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < kPausesPerClockRead; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < deadline);
  }
  value.wait(old, std::memory_order_acquire);
}

int n_cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace

struct ThreadPool::State {
  explicit State(int n_threads) : n_threads(n_threads), may_spin(n_threads <= n_cores()) {}

  const int n_threads;
  const bool may_spin;  // spinning threads would keep working ones off the cores
  std::vector<std::thread> workers;

  // The current run; constant while any of its items is unfinished.
  Task task = nullptr;
  void* context = nullptr;
  int64_t n_items = 0;

  alignas(64) std::atomic<int64_t> unclaimed{0};
  alignas(64) std::atomic<int64_t> unfinished{0};
  alignas(64) std::atomic<uint32_t> round{0};     // raised when a run begins, and to stop
  alignas(64) std::atomic<uint32_t> finished{0};  // raised when a run's last item is done
  std::atomic<bool> stopping{false};

  void work() noexcept {
    int64_t rest = unclaimed.load(std::memory_order_acquire);
    while (rest > 0) {
      const int64_t take = std::max<int64_t>(1, rest / (2 * n_threads));
      if (!unclaimed.compare_exchange_weak(rest, rest - take, std::memory_order_acq_rel)) continue;
      const int64_t first = n_items - rest;
      for (int64_t i = first; i < first + take; ++i) task(context, i);
      if (unfinished.fetch_sub(take, std::memory_order_acq_rel) == take) {
        finished.fetch_add(1, std::memory_order_release);
        finished.notify_all();
      }
      rest = unclaimed.load(std::memory_order_acquire);
    }
  }

  void serve() noexcept {
    uint32_t seen = 0;
    while (true) {
      wait_while_equal(round, seen, may_spin);
      seen = round.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      work();
    }
  }

  void stop() noexcept {
    stopping.store(true, std::memory_order_release);
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int n_threads)
    : state_(std::make_unique<State>(n_threads > 0 ? n_threads : n_cores())) {
  try {
    for (int i = 1; i < state_->n_threads; ++i)
      state_->workers.emplace_back([state = state_.get()] { state->serve(); });
  } catch (const std::exception& e) {
    state_->stop();
    fail(ErrorCode::kOutOfMemory, "cannot start {} threads: {}; ask for fewer with --threads",
         state_->n_threads, e.what());
  }
}

ThreadPool::~ThreadPool() { state_->stop(); }

int ThreadPool::n_threads() const { return state_->n_threads; }

void ThreadPool::run_erased(int64_t n_items, Task task, void* context) {
  State& s = *state_;
  if (n_items <= 1 || s.n_threads == 1) {
    for (int64_t i = 0; i < n_items; ++i) task(context, i);
    return;
  }
  LAPIDARY_CHECK(s.unfinished.load(std::memory_order_relaxed) ==
                 0);  // one run at a time, not nested
  s.task = task;
  s.context = context;
  s.n_items = n_items;
  s.unfinished.store(n_items, std::memory_order_relaxed);
  s.unclaimed.store(n_items, std::memory_order_release);
  s.round.fetch_add(1, std::memory_order_release);
  s.round.notify_all();
  s.work();
  // `finished` may still be raised late for an earlier run, so `unfinished` has the last word.
  uint32_t seen = s.finished.load(std::memory_order_acquire);
  while (s.unfinished.load(std::memory_order_acquire) != 0) {
    wait_while_equal(s.finished, seen, s.may_spin);
    seen = s.finished.load(std::memory_order_acquire);
  }
}

}  // namespace lapidary
