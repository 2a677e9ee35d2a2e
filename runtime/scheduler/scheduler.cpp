// The thread that serves: who is let in, what a step computes, who hears of it.
//
// Other threads touch what `mutex` guards: the queue, wishes to cancel, counters. Everything else
// belongs to the scheduler's thread, which holds the mutex neither while it computes nor while it
// calls a request's functions.
#include "runtime/scheduler/scheduler.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "formats/error.h"
#include "runtime/scheduler/answer.h"
#include "runtime/scheduler/step_pace.h"
#include "runtime/scheduler/turn_queue.h"

namespace lapidary {

struct Scheduler::State {
  State(Engine& e, const SchedulerOptions& o);
  ~State();

  void check(const Request& request) const;
  uint64_t kv_bytes_of(int64_t capacity) const;

  // The thread's own.
  void serve();
  bool wait_for_work();  // false: close
  void retire();
  void admit();
  void step();
  void run_step(std::span<Answer* const> answers, std::span<const BatchItem> batch);
  std::vector<Answer*> prompts_in_turn();
  void end(std::unique_ptr<Answer> answer, FinishReason reason);

  Engine& engine;
  SchedulerOptions options;
  uint64_t kv_bytes;  // what sequences may take

  mutable std::mutex mutex;
  std::condition_variable wake, idle;
  TurnQueue waiting;
  std::set<RequestId> cancelled;
  RequestId last_id = 0;
  bool draining = false, closing = false;
  SchedulerCounters counters;

  std::vector<std::unique_ptr<Answer>> running;
  StepPace pace;
  uint64_t kv_bytes_used = 0, turn = 0;
  std::thread thread;
};

Scheduler::State::State(Engine& e, const SchedulerOptions& o) : engine(e), options(o) {
  const int most = std::min(e.options().max_batch_tokens, e.options().max_logits);
  if (o.max_running < 1 || o.max_running > most)
    fail(ErrorCode::kUsage, "max_running is {}: expected 1 to {}, what the engine takes at once",
         o.max_running, most);
  if (o.max_waiting < 0)
    fail(ErrorCode::kUsage, "max_waiting is {}: expected 0 or more", o.max_waiting);
  const uint64_t longest = kv_bytes_of(o.context);
  kv_bytes = o.kv_bytes > 0 ? o.kv_bytes : longest * uint64_t(o.max_running) + o.prefix_bytes;
  if (longest > kv_bytes)
    fail(ErrorCode::kOutOfMemory,
         "a context of {} tokens takes {} bytes of KV cache, {} are allowed; use a smaller context",
         o.context, longest, kv_bytes);
  thread = std::thread([this] { serve(); });
}

Scheduler::State::~State() {
  {
    const std::lock_guard lock(mutex);
    closing = true;
  }
  wake.notify_all();
  thread.join();
}

uint64_t Scheduler::State::kv_bytes_of(int64_t capacity) const {
  return plan_kv(engine.model().config(), options.kv, capacity, engine.options().max_batch_tokens)
      .reserved_bytes;
}

void Scheduler::State::check(const Request& r) const {
  const int64_t vocab = engine.model().config().vocab_size;
  const int64_t n = std::ssize(r.prompt);
  if (n == 0) fail(ErrorCode::kUsage, "the prompt has no tokens: expected at least one");
  if (n > options.context)
    fail(ErrorCode::kUsage, "the prompt has {} tokens, the context has room for {}", n,
         options.context);
  for (const int32_t id : r.prompt)
    if (id < 0 || id >= vocab)
      fail(ErrorCode::kUsage, "prompt: token id {} is outside the vocabulary of {}", id, vocab);
  if (r.max_tokens < 0)
    fail(ErrorCode::kUsage, "max_tokens is {}: expected 0 or more", r.max_tokens);
  validate(r.sampling);
  for (const auto& [id, bias] : r.logit_bias)
    if (id < 0 || id >= vocab || !std::isfinite(bias))
      fail(ErrorCode::kUsage, "logit_bias: {} for token {}: expected a number and an id below {}",
           bias, id, vocab);
  if (r.n_log_probabilities > kMostBest)
    fail(ErrorCode::kUsage, "log-probabilities of {} tokens: {} at most", r.n_log_probabilities,
         kMostBest);
  if (r.adapter && !r.adapter->belongs_to(engine.model()))
    fail(ErrorCode::kUsage, "the adapter was loaded for another model");
}

void Scheduler::State::serve() {
  while (wait_for_work()) {
    retire();
    admit();
    if (!running.empty()) step();
    const std::lock_guard lock(mutex);
    counters.running = std::ssize(running);
    counters.waiting = int64_t(waiting.size());
    counters.kv_bytes_used = kv_bytes_used;
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
      ++counters.running;
    }
    kv_bytes_used += answer->kv_bytes;
    answer->turn = turn;
    try {
      answer->begin(engine.new_sequence(answer->capacity(), options.kv));
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

void Scheduler::State::step() {
  std::vector<Answer*> answers;
  std::vector<BatchItem> batch;
  for (const auto& answer : running)
    if (!answer->in_prompt()) {
      answers.push_back(answer.get());
      batch.push_back(answer->next(1));
    }
  const int64_t n_running = std::ssize(batch);
  int64_t room = pace.prompt_tokens(n_running, engine.options().max_batch_tokens - n_running);
  int64_t n_prompt = 0;
  for (Answer* answer : prompts_in_turn()) {
    if (room == 0) break;
    const int64_t n = std::min(room, answer->prompt_left());
    answer->turn = ++turn;
    answers.push_back(answer);
    batch.push_back(answer->next(n));
    room -= n;
    n_prompt += n;
  }

  const Clock::time_point start = Clock::now();
  run_step(answers, batch);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  pace.record(n_running, n_prompt, seconds);

  uint64_t n_new = 0;
  for (auto& answer : running) {
    const int64_t before = answer->n_new();
    const bool ended = answer->deliver();
    n_new += uint64_t(answer->n_new() - before);
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
  {
    const std::lock_guard lock(mutex);
    if (reason == FinishReason::kError) ++counters.failed;
    if (reason == FinishReason::kCancelled) ++counters.cancelled;
  }
  answer->finish(reason);
}

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options)
    : state_(std::make_unique<State>(engine, options)) {}
Scheduler::~Scheduler() = default;

RequestId Scheduler::submit(Request request) {
  State& s = *state_;
  s.check(request);
  const std::unique_lock lock(s.mutex);
  if (s.draining || s.closing) {
    ++s.counters.refused;
    fail(ErrorCode::kBusy, "closing: no new requests are taken");
  }
  // Those that can run at once do not wait.
  const size_t room = size_t(s.options.max_waiting) +
                      size_t(std::max<int64_t>(0, s.options.max_running - s.counters.running));
  if (s.waiting.size() >= room) {
    ++s.counters.refused;
    fail(ErrorCode::kBusy, "{} requests run and {} wait already; try again later",
         s.counters.running, s.waiting.size());
  }
  const RequestId id = ++s.last_id;
  s.waiting.push(std::make_unique<Answer>(id, std::move(request), s.engine.model().config(),
                                          s.options.context));
  ++s.counters.requests;
  s.counters.waiting = int64_t(s.waiting.size());
  s.wake.notify_all();
  return id;
}

void Scheduler::cancel(RequestId id) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (id == 0 || id > s.last_id) return;
  s.cancelled.insert(id);
  s.wake.notify_all();
}

bool Scheduler::drain(std::chrono::milliseconds limit) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.draining = true;
  return s.idle.wait_for(lock, limit, [&] { return s.waiting.empty() && s.counters.running == 0; });
}

SchedulerCounters Scheduler::counters() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counters;
}

const SchedulerOptions& Scheduler::options() const { return state_->options; }

}  // namespace lapidary
