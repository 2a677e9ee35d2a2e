// The thread that serves: who is let in, what a step computes, who hears of it.
#include <algorithm>

#include "formats/error.h"
#include "runtime/scheduler/scheduler_state.h"

namespace lapidary {
namespace {

// A step of so many tokens still costs little more than its weights' way from memory.
constexpr int64_t kFewTokens = 16;

}  // namespace

void Scheduler::State::serve() {
  while (wait_for_work()) {
    retire();
    admit();
    if (!running.empty()) step();
    const std::lock_guard lock(mutex);
    counters.running = std::ssize(running);
    counters.waiting = int64_t(waiting.size());
    counters.kv_bytes_used = kv_bytes_used + prefixes.bytes();
    counters.prefix_bytes_used = prefixes.bytes();
    if (running.empty() && waiting.empty()) idle.notify_all();
  }
  for (auto& answer : running) end(std::move(answer), FinishReason::kCancelled);
  running.clear();
  std::unique_lock lock(mutex);
  while (!waiting.empty()) {
    std::unique_ptr<Answer> answer = waiting.pop();
    lock.unlock();
    end(std::move(answer), FinishReason::kCancelled);
    lock.lock();
  }
  idle.notify_all();
}

// With nothing running, whoever waits can be let in: there is nothing else to wait for.
bool Scheduler::State::wait_for_work() {
  std::unique_lock lock(mutex);
  wake.wait(lock, [&] { return closing || !running.empty() || !waiting.empty(); });
  return !closing;
}

// Lets those go who have been cancelled or have waited too long.
void Scheduler::State::retire() {
  std::deque<std::unique_ptr<Answer>> leaving;
  std::set<RequestId> wished;
  const Clock::time_point now = Clock::now();
  const auto leaves = [&](const Answer& a) { return wished.contains(a.id()) || a.is_over(now); };
  {
    const std::lock_guard lock(mutex);
    wished.swap(cancelled);
    leaving = waiting.take_if(leaves);
  }
  for (auto& answer : running)
    if (leaves(*answer)) leaving.push_back(std::move(answer));
  std::erase(running, nullptr);
  for (auto& answer : leaving) {
    const bool is_wish = wished.contains(answer->id());
    end(std::move(answer), is_wish ? FinishReason::kCancelled : FinishReason::kDeadline);
  }
}

void Scheduler::State::admit() {
  while (std::ssize(running) < options.max_running) {
    std::unique_ptr<Answer> answer;
    {
      const std::lock_guard lock(mutex);
      if (waiting.empty()) return;
      answer = nullptr;
      const uint64_t bytes = kv_bytes_of(waiting.front().capacity());
      if (bytes > kv_bytes - kv_bytes_used) return;  // when others have ended
      answer = waiting.pop();
      answer->kv_bytes = bytes;
      counters.running = std::ssize(running) + 1;
    }
    kv_bytes_used += answer->kv_bytes;
    prefixes.limit(kv_bytes - kv_bytes_used);
    answer->turn = turn;
    try {
      answer->begin(engine.new_sequence(answer->capacity(), options.kv),
                    {options.draft_tokens, options.assistant});
      running.push_back(std::move(answer));
    } catch (const std::exception& e) {
      answer->fail(e.what());
      end(std::move(answer), FinishReason::kError);
    }
  }
}

// Answers whose prompts are being read, the account that has waited longest for room first.
std::vector<Answer*> Scheduler::State::prompts_in_turn() {
  std::vector<std::pair<uint64_t, Answer*>> prompts;
  for (const auto& answer : running) {
    if (!answer->in_prompt()) continue;
    uint64_t last = 0;
    for (const auto& other : running)
      if (other->request().account == answer->request().account) last = std::max(last, other->turn);
    prompts.emplace_back(last, answer.get());
  }
  std::sort(prompts.begin(), prompts.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second->id()) < std::pair(b.first, b.second->id());
  });
  std::vector<Answer*> answers;
  for (const auto& [last, answer] : prompts) answers.push_back(answer);
  return answers;
}

// Tokens that all answers together may guess: as many as a step takes without becoming much slower,
// so none when enough answers fill it, and with a row of logits left for each.
int64_t Scheduler::State::guesses_of_step() const {
  if (options.draft_tokens == 0) return 0;
  const int64_t n_all = std::ssize(running);
  return std::max<int64_t>(0, std::min({kFewTokens - n_all, engine.options().max_logits - n_all,
                                        engine.options().max_batch_tokens - n_all}));
}

// Chunks of prompts behind the running answers, as many tokens as the step has room for; returns
// their number.
int64_t Scheduler::State::add_prompts(std::vector<Answer*>& answers,
                                      std::vector<BatchItem>& batch) {
  int64_t n_others = 0;
  for (const BatchItem& item : batch) n_others += std::ssize(item.tokens);
  const int64_t most =
      pace.prompt_tokens(std::ssize(batch), engine.options().max_batch_tokens - n_others);
  int64_t room = most;
  for (Answer* answer : prompts_in_turn()) {
    if (room == 0) break;
    if (!answer->has_begun && !begin_prompt(*answer)) continue;
    const int64_t n = std::min(room, answer->prompt_left());
    answer->turn = ++turn;
    answers.push_back(answer);
    batch.push_back(answer->next(n));
    room -= n;
  }
  return most - room;
}

// Takes the longest prefix known. False: another request is just reading one that is longer, and to
// wait for it is quicker than to read it twice.
bool Scheduler::State::begin_prompt(Answer& answer) {
  if (options.prefix_bytes > 0 && !answer.request().wants_mean_state) {
    const auto& adapter = answer.request().adapter;
    const int64_t known = prefixes.find(adapter, answer.tokens(), answer.sequence());
    for (const auto& other : running) {
      if (!other->has_begun || other->request().adapter != adapter) continue;
      const int64_t common = answer.common_pages(*other) * kPageTokens;
      if (common > known && common > other->sequence().length()) return false;
    }
    answer.took_prefix(prefixes.restore(adapter, answer.tokens(), answer.sequence()));
    const std::lock_guard lock(mutex);
    counters.cached_tokens += uint64_t(answer.sequence().length());
  }
  answer.has_begun = true;
  return true;
}

// Pages that the answer has completed, prompt and answer alike: the next turn begins with both.
void Scheduler::State::keep_pages(Answer& answer) {
  if (options.prefix_bytes == 0) return;
  const int64_t n_pages = answer.sequence().length() / kPageTokens;
  try {
    for (int64_t& page = answer.n_kept_pages; page < n_pages; ++page)
      prefixes.keep(answer.request().adapter, answer.tokens(), page, answer.sequence());
  } catch (const std::bad_alloc&) {  // a cache that cannot grow is no reason to fail
  }
}

void Scheduler::State::step() {
  std::vector<Answer*> answers;
  std::vector<BatchItem> batch;
  int64_t n_guesses = guesses_of_step();
  for (const auto& answer : running)
    if (!answer->in_prompt()) {
      answers.push_back(answer.get());
      batch.push_back(answer->next(1 + n_guesses));
      n_guesses -= answer->n_guessed();
    }
  const int64_t n_running = std::ssize(batch);
  const int64_t n_prompt = add_prompts(answers, batch);

  const Clock::time_point start = Clock::now();
  run_step(answers, batch);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  pace.record(n_running, n_prompt, seconds);
  uint64_t n_guessed = 0, n_held = 0;
  for (const Answer* answer : answers) {
    n_guessed += uint64_t(answer->n_guessed());
    n_held += uint64_t(answer->n_held());
  }

  uint64_t n_new = 0;
  for (auto& answer : running) {
    const int64_t before = answer->n_new();
    const bool ended = answer->deliver();
    n_new += uint64_t(answer->n_new() - before);
    keep_pages(*answer);
    if (!ended) continue;
    const FinishReason reason = answer->reason();
    end(std::move(answer), reason);
  }
  std::erase(running, nullptr);
  const std::lock_guard lock(mutex);
  ++counters.steps;
  counters.step_seconds += seconds;
  counters.prompt_tokens += uint64_t(n_prompt);
  counters.new_tokens += n_new;
  counters.drafted_tokens += n_guessed;
  counters.accepted_tokens += n_held;
}

// One step for all; when it is refused (a per-layer embedding that cannot be read), each alone, so
// that only those fail whose fault it is. A refused step changes nothing.
void Scheduler::State::run_step(std::span<Answer* const> answers,
                                std::span<const BatchItem> batch) {
  int n_best = 0;
  bool needs_all = false;
  for (const Answer* answer : answers) {
    if (answer->n_wanted() == 0) continue;
    needs_all = needs_all || answer->n_best() == 0;
    n_best = std::max(n_best, answer->n_best());
  }
  if (needs_all) n_best = 0;
  AnswerRows all;
  try {
    if (needs_all)
      all.logits = engine.step(batch);
    else
      all.best = engine.step_best(batch, all.n_best = std::max(1, n_best));
  } catch (const std::exception& e) {
    if (batch.size() == 1) return answers[0]->fail(e.what());
    for (size_t i = 0; i < batch.size(); ++i) run_step(answers.subspan(i, 1), batch.subspan(i, 1));
    return;
  }
  std::vector<AnswerRows> rows;
  const int64_t vocab = engine.model().config().vocab_size;
  int64_t first = 0;
  for (const Answer* answer : answers) {
    const int64_t n = answer->n_wanted();
    AnswerRows own{{}, {}, all.n_best};
    if (needs_all)
      own.logits = all.logits.subspan(size_t(first * vocab), size_t(n * vocab));
    else
      own.best = all.best.subspan(size_t(first * all.n_best), size_t(n * all.n_best));
    rows.push_back(own);
    first += n;
  }
  engine.pool().run(std::ssize(rows),
                    [&](int64_t i) { answers[size_t(i)]->choose(rows[size_t(i)]); });
}

void Scheduler::State::end(std::unique_ptr<Answer> answer, FinishReason reason) {
  kv_bytes_used -= answer->kv_bytes;
  prefixes.limit(kv_bytes - kv_bytes_used);
  {
    const std::lock_guard lock(mutex);
    if (reason == FinishReason::kError) ++counters.failed;
    if (reason == FinishReason::kCancelled) ++counters.cancelled;
  }
  answer->finish(reason);
}

}  // namespace lapidary
