// Guessed tokens: quicker, and never another answer, greedy or sampled.
#include "runtime/drafter.h"

#include <gtest/gtest.h>

#include "formats/error.h"
#include "runtime/grammar/vocabulary.h"
#include "tests/runtime/scheduler/scheduler_fixture.h"

namespace lapidary {
namespace {

std::vector<int32_t> guess(LookupDrafter& drafter, std::vector<int32_t> tokens, int64_t most) {
  static Sequence none(converted_model("nano-e")->config(), 1, {}, 1);
  std::vector<int32_t> draft;
  drafter.guess({tokens, none}, most, draft);
  return draft;
}

TEST(Drafter, FindsWhatFollowedTheLongestRunLast) {
  LookupDrafter drafter;
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(guess(drafter, {1, 2, 3}, 4), Ids{});
  EXPECT_EQ(guess(drafter, {1, 2, 3, 4, 5, 9, 2, 3, 8, 7, 2}, 4), Ids{});
  // Both 1 2 3 and, later, 2 3 have been said: the longer run counts.
  EXPECT_EQ(guess(drafter, {1, 2, 3, 4, 5, 9, 2, 3, 8, 7, 2, 1, 2, 3}, 2), (Ids{4, 5}));
  EXPECT_EQ(guess(drafter, {1, 2, 3, 4, 5, 9, 2, 3, 8, 7, 2, 1, 2, 3}, 1), (Ids{4}));
  LookupDrafter circles;
  EXPECT_EQ(guess(circles, {5, 6, 7, 5, 6}, 7), (Ids{7, 5, 6, 7, 5, 6, 7}));
  LookupDrafter recent;
  EXPECT_EQ(guess(recent, {1, 2, 3, 1, 2, 4, 1, 2}, 1), (Ids{4}));
}

TEST(Drafter, LengthFollowsWhatHolds) {
  DraftLength length(10);
  EXPECT_EQ(length.next(), 3);
  length.record(3, 3);
  EXPECT_EQ(length.next(), 5);
  length.record(5, 1);
  EXPECT_EQ(length.next(), 2);
  for (int i = 0; i < 9; ++i) length.record(length.next(), 99);
  EXPECT_LE(length.next(), 10);
  // Nothing holds: pauses grow.
  int n_guesses = 0;
  for (int i = 0; i < 1000; ++i) {
    const int64_t n = length.next();
    n_guesses += n > 0;
    length.record(n, 0);
  }
  EXPECT_LT(n_guesses, 50);
  EXPECT_GT(n_guesses, 20);
}

// Prompts that repeat themselves, so that guesses are made and hold now and then; temperatures make
// some of them fail.
TEST(Drafter, AnswersAreThoseWithoutGuesses) {
  for (const char* kv : {"off", "k4v4"}) {
    const auto model = converted_model("nano-e");
    const int64_t vocab = model->config().vocab_size;
    Engine engine(model, {.n_threads = 2, .max_batch_tokens = 64, .max_logits = 32});
    Engine plain(model, {.n_threads = 2, .max_batch_tokens = 50});
    const auto adapter = Adapter::load(data_path("nano-e/reference/lora_final"), *model);
    const auto vocabulary = std::make_shared<const grammar::Vocabulary>(model->tokenizer());
    const auto schema = Constraint::compile(
        Rule::schema(R"({"type": "object", "properties": {"forename": {"type": "string",
                         "maxLength": 12}, "surname": {"type": "string", "maxLength": 12}},
                         "required": ["forename", "surname"]})"),
        vocabulary, {1});
    SplitMix64 random(4);
    Collector collector;
    std::vector<Request> requests;
    Scheduler scheduler(engine, {.context = 400,
                                 .max_running = 3,
                                 .prefix_bytes = 1 << 28,
                                 .draft_tokens = 12,
                                 .kv = parse_kv_code(kv)});
    for (size_t i = 0; i < 20; ++i) {
      Request r;
      const auto phrase = random_prompt(random, 12, vocab);
      for (int n = 0; n < 6; ++n) r.prompt.insert(r.prompt.end(), phrase.begin(), phrase.end());
      r.max_tokens = 1 + int64_t(random.below(120));
      r.sampling.seed = i;
      r.sampling.greedy = i % 3 == 0;
      r.sampling.temperature = i % 3 == 1 ? 0.3f : 1.0f;
      if (i % 2 == 0) r.sampling.top_k = 40;
      if (i % 5 == 1) r.adapter = adapter;
      if (i % 7 == 2) r.sampling.frequency_penalty = 0.1f;
      if (i % 4 == 3) {
        r.constraint = schema;
        r.max_tokens = 120;
      }
      if (i % 6 == 5) r.prompt = model->tokenizer().encode("Count: 1 2 3 1 2 3 1 2 3 1 2");
      requests.push_back(r);
      collector.add(r);
      scheduler.submit(std::move(r));
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      const GenerateResult want = alone(plain, requests[i], 400, parse_kv_code(kv));
      const Collected& got = collector.wait(i);
      EXPECT_EQ(got.tokens, want.tokens) << kv << " " << i;
      EXPECT_EQ(name_of(got.finish->reason), want.finish_reason) << i << got.finish->error;
    }
    const SchedulerCounters counters = scheduler.counters();
    EXPECT_GT(counters.accepted_tokens, 50u);
    EXPECT_GT(counters.drafted_tokens, counters.accepted_tokens);
    EXPECT_LT(counters.steps, counters.new_tokens);
  }
}

// An assistant for several answers at once: whose state and memory it reads is each answer's own.
TEST(Drafter, AnAssistantLeavesAnswersAsTheyAre) {
  const TemporaryFolder folder;
  convert(*HfSource::open(data_path("tiny-assistant")), folder.file("a.lap"), {});
  const auto model = converted_model("nano-e");
  const auto adapter = Adapter::load(data_path("nano-e/reference/lora_final"), *model);
  Engine plain(model, {.n_threads = 2, .max_batch_tokens = 50});
  for (const char* kv : {"off", "k4v3"}) {
    Engine engine(model, {.n_threads = 2, .max_batch_tokens = 64, .max_logits = 32});
    const auto assistant = Assistant::load(folder.file("a.lap"), engine);
    Collector collector;
    std::vector<Request> requests;
    Scheduler scheduler(engine, {.context = 300,
                                 .max_running = 3,
                                 .prefix_bytes = 1 << 28,
                                 .draft_tokens = 5,
                                 .assistant = assistant.get(),
                                 .kv = parse_kv_code(kv)});
    for (size_t i = 0; i < 8; ++i) {
      Request r;
      r.prompt = model->tokenizer().encode(i % 2 ? "The option is used to" : "1 2 3 4 5 6 7 8");
      r.max_tokens = 100 + int64_t(10 * i);
      r.sampling.seed = i;
      r.sampling.greedy = i % 3 == 0;
      r.sampling.temperature = 0.6f;
      if (i % 4 == 1) r.adapter = adapter;
      requests.push_back(r);
      collector.add(r);
      scheduler.submit(std::move(r));
    }
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(collector.wait(i).tokens, alone(plain, requests[i], 300, parse_kv_code(kv)).tokens)
          << kv << " " << i;
    const SchedulerCounters counters = scheduler.counters();
    EXPECT_GT(counters.accepted_tokens, counters.drafted_tokens / 5);
    EXPECT_GT(counters.drafted_tokens, 100u);
  }
}

// The distribution itself: first and second tokens behind a guess over many seeds, against the
// probabilities that the logits give.
TEST(Drafter, SampledTokensKeepTheirDistribution) {
  const auto model = converted_model("nano-e");
  Engine engine(model, {.n_threads = 2, .max_batch_tokens = 256, .max_logits = 64});
  constexpr int kSeeds = 2000, kTopK = 4;
  Engine plain(model, {.n_threads = 2});
  const auto best_behind = [&](const std::vector<int32_t>& ids) {
    const std::vector<float> logits = logits_of(plain, ids, {}, 32);
    std::vector<Candidate> best(kTopK);
    keep_best(std::span(logits).last(size_t(model->config().vocab_size)), 0, best);
    return best;
  };
  // The likely first tokens have all been said behind the last one, so that all lead to a guess.
  std::vector<int32_t> prompt = model->tokenizer().encode("yes no yes no yes no yes no yes");
  const int32_t last = prompt.back();
  for (int i = 0; i < 4; ++i)
    for (const Candidate& c : best_behind(prompt)) prompt.insert(prompt.begin(), {last, c.id, 11});
  std::map<int32_t, int> seen;
  {
    Collector collector;
    Scheduler scheduler(engine, {.context = 128,
                                 .max_running = 4,
                                 .max_waiting = kSeeds,
                                 .prefix_bytes = 1 << 28,
                                 .draft_tokens = 4});
    for (int seed = 0; seed < kSeeds; ++seed) {
      Request r;
      r.prompt = prompt;
      r.max_tokens = 3;
      r.sampling.top_k = kTopK;
      r.sampling.temperature = 2;
      r.sampling.seed = uint64_t(seed);
      collector.add(r);
      scheduler.submit(std::move(r));
    }
    collector.wait();
    EXPECT_GT(scheduler.counters().drafted_tokens, uint64_t(kSeeds / 4));
    for (size_t i = 0; i < kSeeds; ++i)
      if (collector.wait(i).tokens[0] == collector.wait(0).tokens[0])
        ++seen[collector.wait(i).tokens[1]];
    // What follows the first token that the first seed gave.
    std::vector<int32_t> ids = prompt;
    ids.push_back(collector.wait(0).tokens[0]);
    const std::vector<Candidate> best = best_behind(ids);
    double sum = 0;
    int n = 0;
    for (const Candidate& c : best) sum += std::exp((c.logit - best[0].logit) / 2);
    for (const auto& [token, count] : seen) n += count;
    ASSERT_GT(n, 200);
    // Pearson's statistic with 3 degrees of freedom exceeds 16.3 once in a thousand; the seeds are
    // fixed, so this does not change from run to run.
    double statistic = 0;
    for (const Candidate& c : best) {
      const double want = n * std::exp((c.logit - best[0].logit) / 2) / sum;
      statistic += (seen[c.id] - want) * (seen[c.id] - want) / want;
    }
    EXPECT_LT(statistic, 16.3);
    EXPECT_EQ(seen.size(), size_t(kTopK));
  }
}

}  // namespace
}  // namespace lapidary
