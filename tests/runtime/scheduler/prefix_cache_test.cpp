// Prefixes taken from earlier requests: the same answers as without, across windows and packed
// caches, under any pressure of memory.
#include "runtime/scheduler/prefix_cache.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/runtime/scheduler/scheduler_fixture.h"

namespace lapidary {
namespace {

struct Case {
  const char *checkpoint, *kv, *exact, *sliding;
};
const Case kCases[] = {{"nano-e", "off", "", ""},
                       {"nano-e", "f32", "", ""},
                       {"nano-e", "k4v4", "64,64", "k8v8"},
                       {"nano-e", "k8v8", "", ""},
                       {"tiny-gemma3", "off", "", ""},
                       {"tiny-gemma3", "k8v3", "0,0", "k8v8"},
                       {"tiny-gemma4-omni", "k4v4", "0,64", ""},
                       {"tiny-qwen3", "k4v4", "64,0", ""}};
KvOptions options_of(const Case& c) { return *parse_kv({c.kv, c.exact, c.sliding, "", false}); }

// Runs requests one after the other, so that each finds what those before have left.
std::vector<Collected> one_by_one(Engine& engine, const SchedulerOptions& options,
                                  const std::vector<Request>& requests) {
  Collector collector;
  Scheduler scheduler(engine, options);
  std::vector<Collected> answers;
  for (Request r : requests) {
    const size_t number = collector.add(r);
    scheduler.submit(std::move(r));
    answers.push_back(collector.wait(number));
  }
  return answers;
}

// Conversations that branch: prompts share random prefixes of those before and of their answers.
std::vector<Request> branching(int64_t vocab, size_t n, int64_t longest) {
  SplitMix64 random(3);
  std::vector<Request> requests;
  for (size_t i = 0; i < n; ++i) {
    Request r;
    if (i > 0) {
      const auto& old = requests[random.below(i)].prompt;
      r.prompt.assign(old.begin(), old.begin() + int64_t(random.below(old.size() + 1)));
    }
    const auto more = random_prompt(random, random.between(1, longest), vocab);
    r.prompt.insert(r.prompt.end(), more.begin(), more.end());
    if (std::ssize(r.prompt) > longest) r.prompt.resize(size_t(longest));
    r.max_tokens = 4;
    r.sampling.greedy = true;
    requests.push_back(r);
  }
  return requests;
}

TEST(PrefixCache, GivesTheSameBitsAfterAnyPrefix) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(std::string(c.checkpoint) + " " + c.kv + " " + c.exact + c.sliding);
    const auto model = converted_model(c.checkpoint);
    const KvOptions kv = options_of(c);
    Engine engine(model, {.n_threads = 2, .max_batch_tokens = 40, .max_logits = 40});
    SplitMix64 random(1);
    const std::vector<int32_t> ids = random_prompt(random, 600, model->config().vocab_size);
    const std::vector<float> want = logits_of(engine, ids, kv);
    PrefixCache cache(uint64_t{1} << 30);
    const auto first = engine.new_sequence(700, kv);
    int64_t page = 0;
    for (size_t done = 0; done < ids.size(); done += 40) {
      const BatchItem item{first.get(), std::span(ids).subspan(done, 40), 40};
      engine.step({&item, 1});
      for (; (page + 1) * kPageTokens <= first->length(); ++page)
        cache.keep(nullptr, ids, page, *first);
    }
    // A sequence of another size goes on behind prefixes of all lengths.
    Engine other(model, {.n_threads = 1, .max_batch_tokens = 70, .max_logits = 70});
    const int64_t vocab = model->config().vocab_size;
    for (int64_t n = 1; n <= 600; n += n < 580 ? 37 : 1) {
      const auto second = other.new_sequence(std::min<int64_t>(600, n + 70), kv);
      const std::span<const int32_t> prompt = std::span(ids).first(size_t(n));
      const int64_t known = cache.find(nullptr, prompt, *second);
      EXPECT_EQ(known, (n - 1) / 64 * 64);
      EXPECT_EQ(cache.restore(nullptr, prompt, *second), known);
      EXPECT_EQ(second->length(), known);
      const int64_t n_next = std::min<int64_t>(70, second->capacity() - known);
      const BatchItem item{second.get(), std::span(ids).subspan(size_t(known), size_t(n_next)), 0};
      const std::span<const float> got = other.step({&item, 1});
      ASSERT_EQ(std::memcmp(got.data(), &want[size_t(known * vocab)], got.size_bytes()), 0) << n;
    }
    std::vector<int32_t> foreign = ids;
    foreign[100] ^= 1;
    EXPECT_EQ(cache.find(nullptr, foreign, *first), 64);
  }
}

TEST(PrefixCache, AnswersAreTheSameAsWithoutUnderAnyPressure) {
  for (const Case& c : {kCases[0], kCases[2], kCases[4]}) {
    const auto model = converted_model(c.checkpoint);
    const KvOptions kv = options_of(c);
    Engine engine(model, {.n_threads = 2, .max_batch_tokens = 64, .max_logits = 16});
    const std::vector<Request> requests = branching(model->config().vocab_size, 24, 400);
    const std::vector<Collected> want =
        one_by_one(engine, {.context = 420, .max_running = 2, .kv = kv}, requests);
    const uint64_t page =
        Sequence(model->config(), 420, kv, 64).page_part_bytes(2, Sequence::PagePart::kLasting) +
        Sequence(model->config(), 420, kv, 64).page_part_bytes(2, Sequence::PagePart::kNear);
    for (const uint64_t n_pages : {1000, 12, 1}) {
      const std::vector<Collected> got = one_by_one(
          engine, {.context = 420, .max_running = 2, .prefix_bytes = n_pages * page, .kv = kv},
          requests);
      int64_t n_cached = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].tokens, want[i].tokens) << c.checkpoint << " " << c.kv << " " << i;
        n_cached += got[i].finish->cached_tokens;
      }
      if (n_pages == 1000) {
        EXPECT_GT(n_cached, 1000);
      }
    }
  }
}

TEST(PrefixCache, IsSharedBetweenRequestsThatComeTogether) {
  Engine engine(converted_model("nano-e"), {.n_threads = 2, .max_batch_tokens = 64});
  SplitMix64 random(5);
  const auto shared = random_prompt(random, 300, engine.model().config().vocab_size);
  Collector collector;
  std::vector<Request> requests;
  Scheduler scheduler(engine, {.context = 400, .max_running = 6, .prefix_bytes = 1 << 30});
  for (int i = 0; i < 6; ++i) {
    Request r;
    r.prompt = shared;
    r.prompt.push_back(10 + i);
    r.max_tokens = 3;
    r.sampling.greedy = true;
    requests.push_back(r);
    collector.add(r);
    scheduler.submit(std::move(r));
  }
  collector.wait();
  Engine plain(converted_model("nano-e"), {.n_threads = 1, .max_batch_tokens = 33});
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(collector.wait(i).tokens, alone(plain, requests[i], 400).tokens);
  // One reads the prefix; the others wait for it and begin behind its last whole page.
  EXPECT_EQ(scheduler.counters().cached_tokens, 5u * 256u);
  EXPECT_EQ(scheduler.counters().prompt_tokens, 301u + 5u * 45u);
}

TEST(PrefixCache, NextTurnsBeginBehindTheLastAnswer) {
  Engine engine(converted_model("nano-e"), {.n_threads = 2, .max_batch_tokens = 64});
  SplitMix64 random(6);
  Request first;
  first.prompt = random_prompt(random, 100, engine.model().config().vocab_size);
  first.max_tokens = 120;
  first.sampling.greedy = true;
  const SchedulerOptions options{.context = 400, .max_running = 2, .prefix_bytes = 1 << 30};
  Request second = first;
  const std::vector<int32_t> said = one_by_one(engine, options, {first})[0].tokens;
  second.prompt.insert(second.prompt.end(), said.begin(), said.end());
  second.prompt.insert(second.prompt.end(), {7, 8, 9});
  const std::vector<Collected> got = one_by_one(engine, options, {first, second});
  EXPECT_EQ(got[1].finish->cached_tokens, (100 + std::ssize(said) - 1) / 64 * 64);
  EXPECT_EQ(got[1].tokens, alone(engine, second, 400).tokens);
}

TEST(PrefixCache, AdaptersAndModelsDoNotMix) {
  const auto model = converted_model("nano-e");
  Engine engine(model, {.n_threads = 2, .max_batch_tokens = 64});
  SplitMix64 random(8);
  Request r;
  r.prompt = random_prompt(random, 200, model->config().vocab_size);
  r.max_tokens = 10;
  r.sampling.greedy = true;
  std::vector<Request> requests(5, r);
  requests[1].adapter = requests[3].adapter =
      Adapter::load(data_path("nano-e/reference/lora_final"), *model);
  requests[4].wants_mean_state = true;  // needs every token's state
  const std::vector<Collected> got =
      one_by_one(engine, {.context = 400, .max_running = 2, .prefix_bytes = 1 << 30}, requests);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(got[i].tokens, alone(engine, requests[i], 400).tokens) << i;
    EXPECT_EQ(got[i].finish->cached_tokens, i == 2 || i == 3 ? 192 : 0) << i;
  }
}

TEST(PrefixCache, StaysWithinItsBytesAndForgetsTheOldest) {
  const auto model = converted_model("nano-e");
  Engine engine(model, {.n_threads = 2, .max_batch_tokens = 64});
  const auto sequence = engine.new_sequence(200, {});
  SplitMix64 random(9);
  const auto fill = [&](const std::vector<int32_t>& ids, PrefixCache& cache) {
    sequence->truncate(0);
    for (size_t done = 0; done < 192; done += 64) {
      const BatchItem item{sequence.get(), std::span(ids).subspan(done, 64), 64};
      engine.step({&item, 1});
      cache.keep(nullptr, ids, int64_t(done / 64), *sequence);
    }
  };
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 8; ++i)
    prompts.push_back(random_prompt(random, 193, model->config().vocab_size));
  PrefixCache unlimited(uint64_t{1} << 40);
  fill(prompts[0], unlimited);
  const uint64_t one = unlimited.bytes();
  EXPECT_GT(one, 0u);
  fill(prompts[0], unlimited);
  EXPECT_EQ(unlimited.bytes(), one);

  PrefixCache cache(3 * one);
  for (int i = 0; i < 8; ++i) {
    fill(prompts[size_t(i)], cache);
    EXPECT_LE(cache.bytes(), 3 * one);
    EXPECT_EQ(cache.find(nullptr, prompts[0], *sequence), 192) << "is used all the time";
  }
  EXPECT_EQ(cache.find(nullptr, prompts[1], *sequence), 0);
  EXPECT_EQ(cache.find(nullptr, prompts[7], *sequence), 192);
  cache.limit(one);
  EXPECT_LE(cache.bytes(), one);
  cache.limit(0);
  EXPECT_EQ(cache.bytes(), 0u);
  fill(prompts[0], cache);
  EXPECT_EQ(cache.bytes(), 0u);
}

}  // namespace
}  // namespace lapidary
