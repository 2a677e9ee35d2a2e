// Work items that need scratch: shared out one by one, each lane with its own scratch.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/thread_pool.h"

namespace lapidary {

// Calls f(lane, i) for every i in [0, n_items); at most one item of a lane runs at a time. Lanes
// are numbered below pool.n_threads(). The result of an item must not depend on its lane.
template <class F>
void run_in_lanes(ThreadPool& pool, int64_t n_items, F&& f) {
  std::atomic<int64_t> next{0};
  const int64_t n_lanes = n_items < pool.n_threads() ? n_items : pool.n_threads();
  pool.run(n_lanes, [&](int64_t lane) {
    for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < n_items;
         i = next.fetch_add(1, std::memory_order_relaxed))
      f(lane, i);
  });
}

}  // namespace lapidary
