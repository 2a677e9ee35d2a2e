// What a step checks before it computes, so that a refused step changes nothing.
#include "runtime/engine.h"

#include <algorithm>

#include "formats/error.h"
#include "runtime/forward.h"

namespace lapidary {

struct Engine::State {
  State(std::shared_ptr<const Model> m, const EngineOptions& o)
      : model(std::move(m)), options(o), forward(*model, options) {}
  int64_t run(std::span<const BatchItem> batch, int n_best, const LayerStart* start = nullptr);

  std::shared_ptr<const Model> model;
  EngineOptions options;
  Forward forward;
  LayerTap tap;
};

namespace {

void check_options(const EngineOptions& options) {
  // Above this a chunk only costs memory; matrices are long since read once per chunk.
  constexpr int kMost = 65536;
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > kMost)
    fail(ErrorCode::kUsage, "max_batch_tokens is {}: expected 1 to {}", options.max_batch_tokens,
         kMost);
  if (options.max_logits < 1 || options.max_logits > kMost)
    fail(ErrorCode::kUsage, "max_logits is {}: expected 1 to {}", options.max_logits, kMost);
}

void check_item(const BatchItem& item, const Model& model) {
  LAPIDARY_CHECK(item.sequence != nullptr);
  const Sequence& sequence = *item.sequence;
  const int64_t n = static_cast<int64_t>(item.tokens.size());
  if (n == 0) fail(ErrorCode::kUsage, "a batch item without tokens: expected at least one");
  LAPIDARY_CHECK(item.logits_from >= 0 && item.logits_from <= n);
  if (n > sequence.max_batch_tokens())
    fail(ErrorCode::kUsage, "{} tokens at once for a sequence made for {}; feed smaller chunks", n,
         sequence.max_batch_tokens());
  if (n > sequence.capacity() - sequence.length())
    fail(ErrorCode::kUsage, "the sequence is full: {} tokens held, {} more, capacity {}",
         sequence.length(), n, sequence.capacity());
  for (int64_t i = 0; i < n; ++i)
    if (item.tokens[i] < 0 || item.tokens[i] >= model.config().vocab_size)
      fail(ErrorCode::kBadData, "token id {} at index {} is outside the vocabulary of {}",
           item.tokens[i], i, model.config().vocab_size);
  if (item.adapter && !item.adapter->belongs_to(model))
    fail(ErrorCode::kUsage, "the adapter was loaded for another model");
}

}  // namespace

Engine::Engine(std::shared_ptr<const Model> model, const EngineOptions& options) {
  check_options(options);
  state_ = std::make_unique<State>(std::move(model), options);
}
Engine::~Engine() = default;

const Model& Engine::model() const { return *state_->model; }
const EngineOptions& Engine::options() const { return state_->options; }
ThreadPool& Engine::pool() { return state_->forward.pool(); }
void Engine::set_tap(LayerTap tap) { state_->tap = std::move(tap); }

std::unique_ptr<Sequence> Engine::new_sequence(int64_t capacity, const KvOptions& kv) const {
  return std::make_unique<Sequence>(model().config(), capacity, kv, options().max_batch_tokens);
}

std::span<const float> Engine::step(std::span<const BatchItem> batch) {
  const int64_t n_wanted = state_->run(batch, 0);
  return {state_->forward.workspace().logits.data(),
          static_cast<size_t>(n_wanted * model().config().vocab_size)};
}

std::span<const float> Engine::step_from(const LayerStart& start,
                                         std::span<const BatchItem> batch) {
  LAPIDARY_CHECK(start.layer >= 0 && start.layer <= model().config().n_layers());
  for (const BatchItem& item : batch) LAPIDARY_CHECK(item.logits_from == 0);
  const int64_t n_wanted = state_->run(batch, 0, &start);
  return {state_->forward.workspace().logits.data(),
          static_cast<size_t>(n_wanted * model().config().vocab_size)};
}

std::span<const Candidate> Engine::step_best(std::span<const BatchItem> batch, int n_best) {
  LAPIDARY_CHECK(n_best >= 1 && n_best <= kMostBest);
  const int64_t n_wanted = state_->run(batch, n_best);
  return {state_->forward.workspace().best.data(), static_cast<size_t>(n_wanted * n_best)};
}

// Checks, computes, and counts the wanted rows.
int64_t Engine::State::run(std::span<const BatchItem> batch, int n_best, const LayerStart* start) {
  int64_t n_tokens = 0, n_wanted = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    check_item(batch[i], *model);
    for (size_t j = 0; j < i; ++j)
      if (batch[j].sequence == batch[i].sequence)
        fail(ErrorCode::kUsage, "one sequence stands twice in a batch");
    const int64_t n = static_cast<int64_t>(batch[i].tokens.size());
    n_tokens += n;
    n_wanted += n - batch[i].logits_from;
    if (n_tokens > options.max_batch_tokens)
      fail(ErrorCode::kUsage, "a batch of more than max_batch_tokens = {} tokens",
           options.max_batch_tokens);
    if (n_wanted > options.max_logits)
      fail(ErrorCode::kUsage, "logits wanted for more than max_logits = {} tokens",
           options.max_logits);
  }
  if (n_tokens == 0) return 0;

  Workspace& workspace = forward.workspace();
  workspace.rows.clear();
  const int64_t d_model = model->config().d_model;
  for (const BatchItem& item : batch) {
    if (item.adapter) forward.reserve_rank(item.adapter->max_rank());
    float* state = item.states;
    for (size_t i = 0; i < item.tokens.size(); ++i) {
      const bool wants_logits = static_cast<int64_t>(i) >= item.logits_from;
      workspace.rows.push_back({item.sequence, item.adapter,
                                item.sequence->length() + static_cast<int64_t>(i), item.tokens[i],
                                static_cast<int32_t>(workspace.rows.size()),
                                wants_logits || item.state_sum, item.state_sum, wants_logits,
                                wants_logits ? state : nullptr});
      if (wants_logits && state) state += d_model;
    }
  }
  forward.run(n_best, tap, start);
  for (const BatchItem& item : batch)
    item.sequence->advance(static_cast<int64_t>(item.tokens.size()));
  return n_wanted;
}

void Engine::append_random(Sequence& sequence, int64_t n_tokens) {
  if (n_tokens < 0 || n_tokens > sequence.capacity() - sequence.length())
    fail(ErrorCode::kUsage, "{} random tokens: the sequence has room for {}", n_tokens,
         sequence.capacity() - sequence.length());
  Workspace& workspace = state_->forward.workspace();
  while (n_tokens > 0) {
    const int64_t n = std::min<int64_t>(
        n_tokens, std::min(options().max_batch_tokens, sequence.max_batch_tokens()));
    workspace.rows.clear();
    for (int64_t i = 0; i < n; ++i)
      workspace.rows.push_back({&sequence, nullptr, sequence.length() + i, 0,
                                static_cast<int32_t>(i), /*wanted=*/false});
    state_->forward.make_up_kv();
    sequence.advance(n);
    n_tokens -= n;
  }
}

}  // namespace lapidary
