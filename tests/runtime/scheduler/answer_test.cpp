// What a single answer offers: log-probabilities, bias, constraints that begin later, mean states.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/verify/log_softmax.h"
#include "tests/runtime/scheduler/scheduler_fixture.h"

namespace lapidary {
namespace {

using AnswerTest = SchedulerTest;

TEST_F(AnswerTest, LogProbabilitiesAreTheModelsOwn) {
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

TEST_F(AnswerTest, BiasForcesAndForbids) {
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

TEST_F(AnswerTest, MeanStatesDoNotDependOnChunks) {
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
