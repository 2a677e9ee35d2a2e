// Requests whose answers are collected, and the same answers from generate(), one alone.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "runtime/generate.h"
#include "runtime/grammar/vocabulary.h"
#include "runtime/scheduler/scheduler.h"
#include "runtime/verify/random.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {

struct Collected {
  std::vector<int32_t> tokens;
  std::vector<TokenEvent> events;
  std::optional<Finish> finish;
};

// Collects answers by the number that add() gave; wait() returns when all have ended.
class Collector {
 public:
  // Fills in the request's functions. `more`: called first, may stop the answer.
  size_t add(Request& request, std::function<bool(const TokenEvent&)> more = {}) {
    const std::lock_guard lock(mutex_);
    const size_t number = answers_.size();
    answers_.emplace_back();
    request.on_token = [this, number, more = std::move(more)](const TokenEvent& event) {
      {
        const std::lock_guard inner(mutex_);
        answers_[number].tokens.push_back(event.token);
        answers_[number].events.push_back(event);
        order_.push_back(number);
      }
      return !more || more(event);
    };
    request.on_finish = [this, number](const Finish& finish) {
      const std::lock_guard inner(mutex_);
      EXPECT_FALSE(answers_[number].finish) << "ended twice";
      answers_[number].finish = finish;
      changed_.notify_all();
    };
    return number;
  }
  const Collected& wait(size_t number) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60),
                                  [&] { return answers_[number].finish.has_value(); }));
    return answers_[number];
  }
  void wait() {
    for (size_t i = 0; i < answers_.size(); ++i) wait(i);
  }
  const std::vector<size_t>& order() const { return order_; }  // whose token came when

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Collected> answers_;
  std::vector<size_t> order_;
};

inline std::vector<int32_t> random_prompt(SplitMix64& random, int64_t n, int64_t vocab) {
  std::vector<int32_t> prompt(static_cast<size_t>(n));
  for (int32_t& id : prompt) id = static_cast<int32_t>(3 + random.below(uint64_t(vocab) - 3));
  return prompt;
}

// The same answer alone.
inline GenerateResult alone(Engine& engine, const Request& request, int64_t context,
                            const KvOptions& kv = {}) {
  GenerateOptions options;
  options.max_tokens = request.max_tokens;
  options.sampling = request.sampling;
  options.stop_ids = request.stop_ids;
  options.adapter = request.adapter.get();
  options.constraint = request.constraint;
  const auto sequence = engine.new_sequence(context, kv);
  return generate(engine, *sequence, request.prompt, options);
}

inline std::string name_of(FinishReason reason) { return to_string(reason); }

inline constexpr int64_t kContext = 256;

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

}  // namespace lapidary
