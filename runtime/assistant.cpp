// A guess from end to end; layers are Forward's.
#include "runtime/assistant.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

EngineOptions one_token(const Engine& target) {
  return {.max_batch_tokens = 1, .max_logits = 1, .activations = target.options().activations};
}

LinearSizes sizes_of(const Model& model) {
  const auto padded = [](int64_t k) { return (k + kTileK - 1) / kTileK * kTileK; };
  LinearSizes sizes;
  sizes.n_floats = std::max(padded(model.assistant.pre_projection.k), padded(model.head.k));
  sizes.n_rows = 1;
  return sizes;
}

}  // namespace

std::unique_ptr<Assistant> Assistant::load(const std::string& path, Engine& target) {
  return std::make_unique<Assistant>(Model::load_assistant(path, target.model()), target);
}

Assistant::Assistant(std::shared_ptr<const Model> model, Engine& target)
    : model_(std::move(model)),
      target_(target.model()),
      forward_(*model_, one_token(target), Forward::Target{target.model(), target.pool()}),
      linear_(kernels(), target.pool(), bits_of(target.options().activations), kernels().gelu_mul,
              sizes_of(*model_)),
      input_(2 * model_->config().assistant.target_width),
      scores_(model_->config().assistant.n_centroids),
      clusters_(static_cast<size_t>(model_->config().assistant.n_centroids_used)),
      best_(1) {
  if (clusters_.empty()) return;
  const AssistantConfig& shape = model_->config().assistant;
  tokens_.reserve(model_->assistant.token_ordering.size() / static_cast<size_t>(shape.n_centroids) *
                  clusters_.size());
  is_wanted_.resize(static_cast<size_t>(n_panels(model_->head)));
  panels_.reserve(is_wanted_.size());
}

int32_t Assistant::guess(Sequence& sequence, int32_t token, std::span<float> state) {
  const int64_t width = target_.config().d_model;
  LAPIDARY_CHECK(sequence.length() > 0 && std::ssize(state) == width);
  Workspace& ws = forward_.workspace();
  ws.rows.assign(1, {&sequence, nullptr, sequence.length(), token, 0, /*wanted=*/true});
  forward_.fill_angles();
  // It stands behind what the sequence holds, all of which it sees and nothing more: as the last
  // token held does. On sliding layers too: the last `window` tokens.
  --ws.rows[0].position;

  kernels().dequantize_rows(target_.embedding, token, 1, input_.data());
  for (int64_t i = 0; i < width; ++i) input_.data()[i] *= target_.config().embedding_scale;
  std::copy(state.begin(), state.end(), input_.row(1, width));
  linear_.multiply(input_.data(), ws.rows, 2 * width,
                   {{&model_->assistant.pre_projection, ws.hidden.data()}});
  for (int l = 0; l < model_->config().n_layers(); ++l) forward_.run_layer(l);
  forward_.normalize(model_->final_norm);
  head(state);
  return best_[0].id;
}

void Assistant::head(std::span<float> state) {
  const ModelConfig& config = model_->config();
  Workspace& ws = forward_.workspace();
  const Product next{&model_->assistant.post_projection, state.data()};
  const Product all{&model_->head, ws.logits.data()};
  best_[0] = {};
  if (clusters_.empty()) {
    linear_.multiply(ws.normed.data(), ws.rows, config.d_model, {next, all});
    keep_best({ws.logits.data(), static_cast<size_t>(config.vocab_size)}, 0, best_);
    return;
  }
  const Product products[] = {next, {&model_->assistant.centroids, scores_.data()}, all};
  linear_.begin(ws.normed.data(), 1, config.d_model, products);
  linear_.prepare_row(0);
  linear_.run(std::span(products).first(2));
  choose_tokens();
  forward_.pool().run(std::ssize(panels_), [&](int64_t i) {
    linear_.run_rows(model_->head, panels_[static_cast<size_t>(i)], 1, 0, 1, ws.logits.data(),
                     config.vocab_size);
  });
  for (const int32_t token : tokens_) keep_best({ws.logits.data()[token], token}, best_);
}

// The tokens of the best clusters, and the panels that they lie in: no others are computed.
void Assistant::choose_tokens() {
  const std::vector<int32_t>& order = model_->assistant.token_ordering;
  const int64_t n_centroids = scores_.size(), size = std::ssize(order) / n_centroids;
  std::fill(clusters_.begin(), clusters_.end(), Candidate{});
  keep_best({scores_.data(), static_cast<size_t>(n_centroids)}, 0, clusters_);
  tokens_.clear();
  for (const Candidate& cluster : clusters_) {
    const auto first = order.begin() + cluster.id * size;
    tokens_.insert(tokens_.end(), first, first + size);
  }
  std::fill(is_wanted_.begin(), is_wanted_.end(), uint8_t{0});
  for (const int32_t token : tokens_) is_wanted_[static_cast<size_t>(token / kPanelRows)] = 1;
  panels_.clear();
  for (size_t panel = 0; panel < is_wanted_.size(); ++panel)
    if (is_wanted_[panel]) panels_.push_back(static_cast<int64_t>(panel));
}

std::vector<float> Assistant::logits() {
  const float* computed = forward_.workspace().logits.data();
  const auto vocab = static_cast<size_t>(model_->config().vocab_size);
  if (clusters_.empty()) return {computed, computed + vocab};
  float least = best_[0].logit;
  for (const int32_t token : tokens_) least = std::min(least, computed[token]);
  std::vector<float> logits(vocab, least - 1);
  for (const int32_t token : tokens_) logits[static_cast<size_t>(token)] = computed[token];
  return logits;
}

void AssistantDrafter::guess(const DraftContext& context, int64_t most,
                             std::vector<int32_t>& draft) {
  state_.assign(context.state.begin(), context.state.end());
  int32_t token = context.tokens.back();
  for (int64_t i = 0; i < most; ++i) {
    token = assistant_.guess(context.sequence, token, state_);
    draft.push_back(token);
  }
}

}  // namespace lapidary
