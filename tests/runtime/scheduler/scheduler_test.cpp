// Many answers at once: each the same as alone, whoever else is served, and nobody waits for ever.
#include "runtime/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/error.h"
#include "runtime/grammar/vocabulary.h"
#include "runtime/verify/log_softmax.h"
#include "tests/runtime/scheduler/scheduler_fixture.h"

namespace lapidary {
namespace {

constexpr int64_t kContext = 256;

class SchedulerTest : public testing::Test {
 protected:
  static EngineOptions engine_options(int batch = 48) {
    return {.n_threads = 2, .max_batch_tokens = batch, .max_logits = 32};
  }
  const Model& model() const { return engine_.model(); }
  int64_t vocab() const { return model().config().vocab_size; }

  // A request of its own kind for each number: lengths, seeds, penalties, adapters, constraints.
  Request request(size_t i) {
    Request r;
    r.prompt = random_prompt(random_, 1 + int64_t(random_.below(150)), vocab());
    r.max_tokens = 1 + int64_t(random_.below(40));
    r.sampling.seed = i;
    r.sampling.greedy = i % 4 == 0;
    if (i % 4 == 1) r.sampling.top_k = 20;
    if (i % 4 == 2) r.sampling.repetition_penalty = 1.2f;
    r.stop_ids = {5, 6, 7, 8, 9, 10};
    if (i % 5 == 4) {
      r.constraint = Constraint::compile(Rule::regex("[a-z ]{5,30}"), vocabulary(), {1});
      r.sampling.temperature = 1.5f;
    }
    if (i % 3 == 2) r.adapter = adapter_;
    r.account = std::string(1, char('a' + i % 3));
    return r;
  }
  std::shared_ptr<const grammar::Vocabulary> vocabulary() const {
    static const auto made = std::make_shared<const grammar::Vocabulary>(model().tokenizer());
    return made;
  }

  Engine engine_{converted_model("nano-e"), engine_options()};
  Engine alone_{converted_model("nano-e"), engine_options(33)};
  std::shared_ptr<const Adapter> adapter_ =
      Adapter::load(data_path("nano-e/reference/lora_final"), *converted_model("nano-e"));
  SplitMix64 random_{7};
};

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
  for (size_t i = 0; i < 2; ++i) {
    Request r = request(0);
    r.max_tokens = 90000;
    r.stop_ids.clear();
    r.deadline = Clock::now() + std::chrono::milliseconds(600);
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

TEST_F(SchedulerTest, LogProbabilitiesAreTheModelsOwn) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = 64});
  Request r = request(2);  // penalties change the choice, not what is reported
  r.prompt.resize(20, 11);
  r.stop_ids.clear();
  r.max_tokens = 8;
  r.adapter = nullptr;
  r.n_log_probabilities = 3;
  r.logit_bias = {{17, 3.0f}};
  const Request copy = r;
  collector.add(r);
  scheduler.submit(std::move(r));
  const Collected& got = collector.wait(0);
  std::vector<int32_t> ids = copy.prompt;
  ids.insert(ids.end(), got.tokens.begin(), got.tokens.end());
  const std::vector<float> logits = logits_of(alone_, ids, {}, 16);
  for (size_t i = 0; i < got.events.size(); ++i) {
    const std::span row(&logits[(copy.prompt.size() - 1 + i) * size_t(vocab())], size_t(vocab()));
    const TokenEvent& event = got.events[i];
    // Sums of 8192 floats below 1 in double: only the last rounding to float differs.
    EXPECT_NEAR(event.log_probability, -negative_log_likelihood(row, event.token), 1e-5);
    ASSERT_EQ(event.best.size(), 3u);
    EXPECT_EQ(event.best[0].id, std::max_element(row.begin(), row.end()) - row.begin());
    for (const Candidate& c : event.best)
      EXPECT_NEAR(c.logit, -negative_log_likelihood(row, c.id), 1e-5);
    EXPECT_GE(event.best[0].logit, event.best[1].logit);
  }
}

TEST_F(SchedulerTest, BiasForcesAndForbids) {
  Collector collector;
  Scheduler scheduler(engine_, {.context = 64});
  Request r = request(0);
  r.max_tokens = 5;
  r.prompt.resize(20, 11);
  r.stop_ids.clear();
  r.logit_bias = {{1234, 100.0f}};
  collector.add(r);
  scheduler.submit(r);
  EXPECT_EQ(collector.wait(0).tokens, std::vector<int32_t>(5, 1234));
  r.logit_bias.clear();
  r.constraint = Constraint::compile(Rule::regex("[ab]{40}"), vocabulary(), {1});
  r.constrain_after = 1;  // never said: the answer is free
  collector.add(r);
  scheduler.submit(r);
  const std::vector<int32_t> free = collector.wait(1).tokens;
  r.constraint = nullptr;
  EXPECT_EQ(free, alone(alone_, r, 64).tokens);
  // Behind the first token the pattern begins.
  r.constraint = Constraint::compile(Rule::regex("[ab]{8}"), vocabulary(), {1});
  r.constrain_after = free[0];
  r.max_tokens = 30;
  collector.add(r);
  scheduler.submit(r);
  const Collected& got = collector.wait(2);
  EXPECT_EQ(got.finish->reason, FinishReason::kStop);
  ASSERT_GT(got.tokens.size(), 1u);
  EXPECT_EQ(got.tokens[0], free[0]);
  std::vector<int32_t> rest(got.tokens.begin() + 1, got.tokens.end());
  std::erase(rest, 1);
  const std::string text = model().tokenizer().decode(rest);
  EXPECT_EQ(text.size(), 8u);
  EXPECT_EQ(text.find_first_not_of("ab"), std::string::npos) << text;
}

TEST_F(SchedulerTest, MeanStatesDoNotDependOnChunks) {
  const auto mean = [&](Engine& engine, std::vector<int32_t> prompt, int64_t max_tokens) {
    Collector collector;
    Scheduler scheduler(engine, {.context = kContext, .max_running = 4});
    for (int i = 0; i < 3; ++i) {  // others beside it
      Request other = request(0);
      collector.add(other);
      scheduler.submit(std::move(other));
    }
    Request r;
    r.prompt = std::move(prompt);
    r.max_tokens = max_tokens;
    r.wants_mean_state = true;
    const size_t number = collector.add(r);
    scheduler.submit(std::move(r));
    return collector.wait(number).finish->mean_state;
  };
  const std::vector<int32_t> prompt = random_prompt(random_, 100, vocab());
  const std::vector<float> want = mean(alone_, prompt, 0);
  ASSERT_EQ(std::ssize(want), model().config().d_model);
  EXPECT_EQ(mean(engine_, prompt, 0), want);
  EXPECT_EQ(mean(engine_, prompt, 4), want);
  // What the tap sees of the same tokens when all their logits are wanted.
  std::vector<double> sum(want.size());
  Engine plain(converted_model("nano-e"),
               {.n_threads = 2, .max_batch_tokens = 128, .max_logits = 128});
  plain.set_tap([&](int layer, const float* hidden, int64_t n) {
    if (layer != model().config().n_layers() + 1) return;
    for (int64_t t = 0; t < n; ++t)
      for (size_t i = 0; i < sum.size(); ++i)
        sum[i] += double(hidden[t * std::ssize(sum) + int64_t(i)]);
  });
  logits_of(plain, prompt, {});
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_EQ(want[i], float(sum[i] / 100)) << i;
}

}  // namespace
}  // namespace lapidary
