// Taking requests in, and looking after the thread that serves them (serve.cpp).
#include "runtime/scheduler/scheduler.h"

#include <cmath>

#include "formats/error.h"
#include "runtime/scheduler/scheduler_state.h"

namespace lapidary {

Scheduler::State::State(Engine& e, const SchedulerOptions& o)
    : engine(e), options(o), prefixes(o.prefix_bytes) {
  const int most = std::min(e.options().max_batch_tokens, e.options().max_logits);
  if (o.max_running < 1 || o.max_running > most)
    fail(ErrorCode::kUsage, "max_running is {}: expected 1 to {}, what the engine takes at once",
         o.max_running, most);
  if (o.max_waiting < 0)
    fail(ErrorCode::kUsage, "max_waiting is {}: expected 0 or more", o.max_waiting);
  if (o.draft_tokens < 0 || o.draft_tokens >= kRollbackTokens)
    fail(ErrorCode::kUsage, "draft_tokens is {}: expected 0 to {}, which can be taken back",
         o.draft_tokens, kRollbackTokens - 1);
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
