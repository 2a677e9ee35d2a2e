// The pool gives out every index exactly once, whatever the numbers of items and threads.
#include "kernels/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace lapidary {
namespace {

void expect_each_index_once(ThreadPool& pool, int64_t n_items) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(n_items));
  pool.run(n_items, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
  for (int64_t i = 0; i < n_items; ++i)
    ASSERT_EQ(visits[static_cast<size_t>(i)], 1) << "item " << i << " of " << n_items;
}

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (const int n_threads : {1, 2, 3, 5}) {
    ThreadPool pool(n_threads, n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (const int64_t n_items : {0, 1, 2, 3, 4, 7, 64, 1000})
      expect_each_index_once(pool, n_items);
  }
}

TEST(ThreadPool, TakesAllCoresByDefaultAndNeverMore) {
  EXPECT_EQ(ThreadPool(0).n_threads(), available_cores());
  EXPECT_EQ(ThreadPool(-3).n_threads(), available_cores());
  EXPECT_EQ(ThreadPool(available_cores() + 1).n_threads(), available_cores());
  EXPECT_EQ(ThreadPool(1).n_threads(), 1);
}

TEST(ThreadPool, RespectsTheAffinityMask) {
  // In a thread of its own, so that the mask ends with it.
  std::thread([] {
    cpu_set_t mask, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
    int core = 0;
    while (!CPU_ISSET(core, &mask)) ++core;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(available_cores(), 1);
    EXPECT_EQ(ThreadPool(0).n_threads(), 1);
    ThreadPool crowded(4, 4);  // four threads on one core still finish
    for (int round = 0; round < 200; ++round) expect_each_index_once(crowded, 50);
  }).join();
}

TEST(ThreadPool, KeepsItsWordOverManyShortRounds) {
  ThreadPool pool(3, 3);
  for (int round = 0; round < 5000; ++round) {
    // The sum is plain memory per item: run() must make the items' writes visible to the caller.
    int written[5] = {};
    pool.run(5, [&](int64_t i) { written[i] = round; });
    for (const int value : written) ASSERT_EQ(value, round);
  }
}

TEST(ThreadPool, WakesSleepingThreads) {
  ThreadPool pool(2, 2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // far longer than the spin
    // Two items that wait for each other need two threads, so the sleeping one has to come.
    std::atomic<int> arrived{0};
    pool.run(2, [&](int64_t) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
  }
}

TEST(ThreadPool, SharesUnequalItems) {
  ThreadPool pool(4, 4);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 50; ++round)
    pool.run(100, [&](int64_t i) {
      if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      sum += i;
    });
  EXPECT_EQ(sum, 50 * 4950);
}

TEST(ThreadPool, WithMoreThreadsThanCoresNeitherHangsNorCrawls) {
  ThreadPool pool(32, 32);
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 500; ++round) expect_each_index_once(pool, 40);
  // About 0.1 s on two idle cores; a pool that waited a time slice per thread and round would take
  // 500 * 30 * 4 ms.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
}

TEST(ThreadPool, GoesOnBesideBusyLoops) {
  // As many other threads that never sleep as there are cores: a pool that spun while it waits for
  // a thread off its core would wait a time slice in every round.
  std::atomic<bool> stop{false};
  std::vector<std::thread> loops;
  for (int i = 0; i < available_cores(); ++i)
    loops.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  ThreadPool pool(2, 2);
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 2000; ++round)
    pool.run(16, [](int64_t) {  // long enough for the other thread to come and claim
      const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(5);
      while (std::chrono::steady_clock::now() < end) {
      }
    });
  const auto taken = std::chrono::steady_clock::now() - start;
  stop = true;
  for (std::thread& loop : loops) loop.join();
  EXPECT_LT(taken, std::chrono::seconds(5));  // 2000 slices are 6 s, the work 0.08
}

TEST(ThreadPool, CanBeMadeAndDestroyedRepeatedly) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(1 + i % 4, 4);
    if (i % 2) expect_each_index_once(pool, 3);
  }
}

TEST(ThreadPool, TakesNamedAndConstFunctions) {
  ThreadPool pool(2, 2);
  std::atomic<int> calls{0};
  auto named = [&](int64_t) { ++calls; };
  const auto constant = named;
  pool.run(3, named);
  pool.run(3, constant);
  EXPECT_EQ(calls, 6);
}

TEST(ThreadPool, SeveralPoolsRunSideBySide) {
  ThreadPool outer(2, 2);
  outer.run(2, [](int64_t) {
    ThreadPool inner(2, 2);
    for (int round = 0; round < 200; ++round) expect_each_index_once(inner, 7);
  });
}

}  // namespace
}  // namespace lapidary
