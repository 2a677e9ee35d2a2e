// Many answers at once: each the same as alone, whoever else is served, and nobody waits for ever.
#include "runtime/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "formats/error.h"
#include "tests/runtime/scheduler/scheduler_fixture.h"

namespace lapidary {
namespace {

TEST_F(SchedulerTest, EveryAnswerIsTheOneGivenAlone) {
  SchedulerOptions options{.context = kContext, .max_running = 5};
  Collector collector;
  Scheduler scheduler(engine_, options);
  std::vector<Request> requests;
  for (size_t i = 0; i < 24; ++i) {
    Request r = request(i);
    requests.push_back(r);
    collector.add(r);
    scheduler.submit(std::move(r));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const Collected& got = collector.wait(i);
    const GenerateResult want = alone(alone_, requests[i], kContext);
    EXPECT_EQ(got.tokens, want.tokens) << i;
    EXPECT_EQ(name_of(got.finish->reason), want.finish_reason) << i << ": " << got.finish->error;
    EXPECT_EQ(got.finish->new_tokens, std::ssize(want.tokens));
    EXPECT_EQ(got.finish->prompt_tokens, std::ssize(requests[i].prompt));
    EXPECT_GT(got.finish->seconds_to_first, 0);
  }
  const SchedulerCounters counters = scheduler.counters();
  EXPECT_EQ(counters.requests, 24u);
  EXPECT_EQ(counters.failed + counters.cancelled + counters.refused, 0u);
  EXPECT_TRUE(scheduler.drain(std::chrono::seconds(10)));
  EXPECT_EQ(scheduler.counters().kv_bytes_used, 0u);
}

TEST_F(SchedulerTest, CancelledAnswersEndAndDisturbNobody) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = kContext, .max_running = 4});
  std::vector<Request> requests;
  std::vector<RequestId> ids;
  for (size_t i = 0; i < 16; ++i) {
    Request r = request(i);
    r.stop_ids.clear();
    r.constraint = nullptr;
    if (i % 2 == 1) r.max_tokens = 100000;
    requests.push_back(r);
    // Some stop themselves, some are cancelled from outside or from within.
    collector.add(r, [&, i, n = 0](const TokenEvent&) mutable {
      ++n;
      if (i % 8 == 1) return n < 5;
      if (i % 8 == 3 && n == 3) scheduler.cancel(ids[i]);
      return true;
    });
    ids.push_back(0);
    requests.back().max_tokens = std::min<int64_t>(r.max_tokens, kContext);
    ids[i] = scheduler.submit(std::move(r));
    if (i % 8 >= 5 && i % 2 == 1) scheduler.cancel(ids[i]);
  }
  scheduler.cancel(0);
  scheduler.cancel(99999);
  for (size_t i = 0; i < requests.size(); ++i) {
    const Collected& got = collector.wait(i);
    GenerateResult want = alone(alone_, requests[i], kContext);
    const FinishReason reason = got.finish->reason;
    if (i % 2 == 0) {
      EXPECT_EQ(got.tokens, want.tokens) << i;
      EXPECT_EQ(reason, FinishReason::kLength);
      continue;
    }
    EXPECT_EQ(reason, i % 8 == 1 ? FinishReason::kStop : FinishReason::kCancelled) << i;
    if (i % 8 == 1) {
      EXPECT_EQ(got.tokens.size(), 5u);
    } else if (i % 8 == 3) {
      EXPECT_EQ(got.tokens.size(), 3u);
    }
    want.tokens.resize(got.tokens.size());  // what was said until then is right
    EXPECT_EQ(got.tokens, want.tokens) << i;
  }
}

TEST_F(SchedulerTest, ThreadsMaySubmitCancelAndLookOnAtOnce) {
  constexpr size_t kThreads = 4, kEach = 12;
  Collector collector;
  Scheduler scheduler(
      engine_, {.context = kContext, .max_running = 3, .prefix_bytes = 1 << 22, .draft_tokens = 4});
  std::vector<Request> requests;
  for (size_t i = 0; i < kThreads * kEach; ++i) requests.push_back(request(i));
  std::vector<Request> copies = requests;
  for (Request& r : copies) collector.add(r);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = t * kEach; i < (t + 1) * kEach; ++i) {
        const RequestId id = scheduler.submit(std::move(copies[i]));
        if (i % 3 == 0) scheduler.cancel(id);
        EXPECT_LE(scheduler.counters().running, 3);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    const Collected& got = collector.wait(i);
    std::vector<int32_t> want = alone(alone_, requests[i], kContext).tokens;
    if (got.finish->reason == FinishReason::kCancelled) want.resize(got.tokens.size());
    EXPECT_EQ(got.tokens, want) << i;
  }
}

TEST_F(SchedulerTest, TheDestructorCancelsWhatIsLeft) {
  Collector collector;
  {
    Scheduler scheduler(engine_, {.context = 4000, .max_running = 2});
    for (size_t i = 0; i < 6; ++i) {
      Request r = request(4 * i);
      r.max_tokens = 100000;
      r.stop_ids.clear();
      collector.add(r);
      scheduler.submit(std::move(r));
    }
  }
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(collector.wait(i).finish->reason, FinishReason::kCancelled);
}

TEST_F(SchedulerTest, AFullQueueRefusesAndDrainEndsIt) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = 1000, .max_running = 1, .max_waiting = 2});
  int n_refused = 0;
  for (size_t i = 0; i < 6; ++i) {
    Request r = request(0);
    r.max_tokens = 300;
    r.stop_ids.clear();
    Request with = r;
    Collector unused;
    try {
      unused.add(with);
      if (n_refused == 0) collector.add(r);
      scheduler.submit(n_refused == 0 ? r : with);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBusy) << e.what();
      ++n_refused;
    }
  }
  EXPECT_EQ(n_refused, 3);
  EXPECT_EQ(scheduler.counters().refused, 3u);
  EXPECT_FALSE(scheduler.drain(std::chrono::milliseconds(1)));
  EXPECT_THROW(scheduler.submit(request(0)), Error);
  EXPECT_TRUE(scheduler.drain(std::chrono::seconds(60)));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(collector.wait(i).tokens.size(), 300u);
}

TEST_F(SchedulerTest, DeadlinesEndWhatRunsAndWhatWaits) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = 100000, .max_running = 1});
  const auto deadline = Clock::now() + std::chrono::milliseconds(600);
  for (size_t i = 0; i < 2; ++i) {
    Request r = request(0);
    r.max_tokens = 90000;
    r.stop_ids.clear();
    r.deadline = deadline;
    collector.add(r);
    scheduler.submit(std::move(r));
  }
  EXPECT_EQ(collector.wait(0).finish->reason, FinishReason::kDeadline);
  EXPECT_GT(collector.wait(0).tokens.size(), 0u);
  EXPECT_EQ(collector.wait(1).finish->reason, FinishReason::kDeadline);
  EXPECT_EQ(collector.wait(1).tokens.size(), 0u);
}

TEST_F(SchedulerTest, AccountsTakeTurns) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = kContext, .max_running = 2});
  for (size_t i = 0; i < 13; ++i) {
    Request r = request(0);
    r.prompt.resize(20, 11);
    r.max_tokens = 10;
    r.stop_ids.clear();
    r.account = i < 12 ? "many" : "one";
    collector.add(r);
    scheduler.submit(std::move(r));
  }
  collector.wait();
  // The single request of the other account comes after those that ran or were next, not last.
  size_t last_of_one = 0, n_many_before = 0;
  for (size_t at = 0; at < collector.order().size(); ++at)
    if (collector.order()[at] == 12) last_of_one = at;
  for (size_t at = 0; at < last_of_one; ++at) n_many_before += collector.order()[at] != 12;
  EXPECT_LE(n_many_before, 70u);
}

TEST_F(SchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = 5000, .max_running = 4});
  Request slow = request(0);
  slow.prompt = random_prompt(random_, 4000, vocab());
  slow.max_tokens = 1;
  slow.account = "long";
  Request quick = request(0);
  quick.prompt = random_prompt(random_, 30, vocab());
  quick.max_tokens = 3;
  quick.stop_ids.clear();
  quick.account = "short";
  collector.add(slow);
  collector.add(quick);
  scheduler.submit(std::move(slow));
  scheduler.submit(std::move(quick));
  collector.wait();
  EXPECT_EQ(collector.order(), (std::vector<size_t>{1, 1, 1, 0}));
}

TEST_F(SchedulerTest, MemoryDecidesWhoIsLetIn) {
  const uint64_t one = plan_kv(model().config(), {}, 64, 48).reserved_bytes;
  Collector collector;
  Scheduler scheduler(engine_, {.context = 64, .max_running = 8, .kv_bytes = 2 * one});
  std::vector<Request> requests;
  for (size_t i = 0; i < 6; ++i) {
    Request r = request(4 * i);
    r.prompt.resize(40, 11);
    r.max_tokens = 25;
    requests.push_back(r);
    collector.add(r, [&](const TokenEvent&) {
      EXPECT_LE(scheduler.counters().kv_bytes_used, 2 * one);
      return true;
    });
    scheduler.submit(std::move(r));
  }
  collector.wait();
  for (size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(collector.wait(i).tokens, alone(alone_, requests[i], 64).tokens) << i;
  EXPECT_THROW(Scheduler(engine_, {.context = 6400, .kv_bytes = one}), Error);
}

TEST_F(SchedulerTest, TheContextEndsAnswersAsGenerateDoes) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = 64});
  for (const int64_t n : {1, 20, 63, 64}) {
    Request r = request(0);
    r.prompt = random_prompt(random_, n, vocab());
    r.stop_ids.clear();
    for (const int64_t max_tokens : {1, 2, 43, 44, 45, 46, 1000}) {
      r.max_tokens = max_tokens;
      const GenerateResult want = alone(alone_, r, 64);
      const size_t number = collector.add(r);
      scheduler.submit(r);
      const Collected& got = collector.wait(number);
      EXPECT_EQ(got.tokens, want.tokens) << n << " " << max_tokens;
      EXPECT_EQ(name_of(got.finish->reason), want.finish_reason) << n << " " << max_tokens;
    }
  }
}

TEST_F(SchedulerTest, RefusesWhatCanNeverRun) {
  Scheduler scheduler(engine_, {.context = 64});
  const auto refuses = [&](auto&& change) {
    Request r;
    r.prompt = {2, 3};
    r.on_finish = [](const Finish&) { ADD_FAILURE() << "called back"; };
    change(r);
    try {
      scheduler.submit(std::move(r));
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUsage) << e.what();
    }
  };
  refuses([](Request& r) { r.prompt.clear(); });
  refuses([](Request& r) { r.prompt.assign(65, 3); });
  refuses([](Request& r) { r.prompt = {-1}; });
  refuses([&](Request& r) { r.prompt = {int32_t(vocab())}; });
  refuses([](Request& r) { r.max_tokens = -1; });
  refuses([](Request& r) { r.sampling.top_p = 0; });
  refuses([&](Request& r) { r.logit_bias = {{int32_t(vocab()), 1.0f}}; });
  refuses([](Request& r) { r.logit_bias = {{3, NAN}}; });
  refuses([](Request& r) { r.n_log_probabilities = kMostBest + 1; });
  EXPECT_THROW(Scheduler(engine_, {.context = 64, .max_running = 33}), Error);
  EXPECT_THROW(Scheduler(engine_, {.context = 0}), Error);
}

}  // namespace
}  // namespace lapidary
