// The pool gives out every index exactly once, whatever the numbers of items and threads.
#include "kernels/thread_pool.h"

#include <gtest/gtest.h>

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
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (const int64_t n_items : {0, 1, 2, 3, 4, 7, 64, 1000})
      expect_each_index_once(pool, n_items);
  }
}

TEST(ThreadPool, TakesAllCoresByDefault) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.n_threads(), static_cast<int>(std::thread::hardware_concurrency()));
}

TEST(ThreadPool, KeepsItsWordOverManyShortRounds) {
  ThreadPool pool(3);
  for (int round = 0; round < 5000; ++round) {
    // The sum is plain memory per item: run() must make the items' writes visible to the caller.
    int written[5] = {};
    pool.run(5, [&](int64_t i) { written[i] = round; });
    for (const int value : written) ASSERT_EQ(value, round);
  }
}

TEST(ThreadPool, WakesSleepingThreads) {
  ThreadPool pool(2);
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
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 50; ++round)
    pool.run(100, [&](int64_t i) {
      if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      sum += i;
    });
  EXPECT_EQ(sum, 50 * 4950);
}

TEST(ThreadPool, WithMoreThreadsThanCoresNeitherHangsNorCrawls) {
  ThreadPool pool(32);
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 500; ++round) expect_each_index_once(pool, 40);
  // About 0.1 s on two idle cores; a pool that waited a time slice per thread and round would take
  // 500 * 30 * 4 ms.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
}

TEST(ThreadPool, CanBeMadeAndDestroyedRepeatedly) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(1 + i % 4);
    if (i % 2) expect_each_index_once(pool, 3);
  }
}

TEST(ThreadPool, TakesNamedAndConstFunctions) {
  ThreadPool pool(2);
  std::atomic<int> calls{0};
  auto named = [&](int64_t) { ++calls; };
  const auto constant = named;
  pool.run(3, named);
  pool.run(3, constant);
  EXPECT_EQ(calls, 6);
}

TEST(ThreadPool, SeveralPoolsRunSideBySide) {
  ThreadPool outer(2);
  outer.run(2, [](int64_t) {
    ThreadPool inner(2);
    for (int round = 0; round < 200; ++round) expect_each_index_once(inner, 7);
  });
}

}  // namespace
}  // namespace lapidary
