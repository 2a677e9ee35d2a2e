// The pool: workers claim runs of items from one shared counter.
//
// `unclaimed` is the only way to get work: whoever lowers it from r to r - m owns the items
// [n_items - r, n_items - r + m). While an owned item is unfinished the run cannot end, so the
// other fields of the run stay as they are; a worker that comes late finds `unclaimed` at zero, or
// owns items of the next run, and both are right. Claims shrink as the run nears its end, so that
// few atomic operations are made and no thread is left with a long rest.
//
// Threads are not pinned. Measured on two cores, E2B w4, tokens/s: 29.4 free and 28.4 pinned on an
// idle machine, 17.7 and 16.2 with a busy loop on one core, since the scheduler cannot move a
// pinned thread out of its way; and a pinned thread hands its mask down to what it starts.
#include "kernels/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>
#include <vector>

#include "formats/error.h"
#include "kernels/signal.h"

namespace lapidary {

int available_cores() {
  cpu_set_t allowed;  // the call fails where there are more cores than the set has bits
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

struct ThreadPool::State {
  explicit State(int n_threads) : n_threads(n_threads) {}

  const int n_threads;
  std::vector<std::thread> workers;

  // The current run; constant while any of its items is unfinished.
  Task task = nullptr;
  void* context = nullptr;
  int64_t n_items = 0;

  alignas(64) std::atomic<int64_t> unclaimed{0};
  alignas(64) std::atomic<int64_t> unfinished{0};
  Signal round;     // raised when a run begins, and to stop
  Signal finished;  // raised when a run's last item is done
  std::atomic<bool> stopping{false};

  void work() noexcept {
    int64_t rest = unclaimed.load(std::memory_order_acquire);
    while (rest > 0) {
      const int64_t take = std::max<int64_t>(1, rest / (2 * n_threads));
      if (!unclaimed.compare_exchange_weak(rest, rest - take, std::memory_order_acq_rel)) continue;
      const int64_t first = n_items - rest;
      for (int64_t i = first; i < first + take; ++i) task(context, i);
      if (unfinished.fetch_sub(take, std::memory_order_acq_rel) == take) finished.raise(1);
      rest = unclaimed.load(std::memory_order_acquire);
    }
  }

  void serve() noexcept {
    uint32_t seen = 0;
    while (true) {
      round.wait(seen);
      seen = round.value();
      if (stopping.load(std::memory_order_acquire)) return;
      work();
    }
  }

  void stop() noexcept {
    stopping.store(true, std::memory_order_release);
    round.raise(std::numeric_limits<int>::max());
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int n_threads, int n_cores)
    : state_(std::make_unique<State>(n_threads > 0 ? std::min(n_threads, n_cores) : n_cores)) {
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
  s.round.raise(static_cast<int>(std::min<int64_t>(n_items, s.n_threads) - 1));
  s.work();
  // `finished` may still be raised late for an earlier run, so `unfinished` has the last word.
  uint32_t seen = s.finished.value();
  while (s.unfinished.load(std::memory_order_acquire) != 0) {
    s.finished.wait(seen);
    seen = s.finished.value();
  }
}

}  // namespace lapidary
