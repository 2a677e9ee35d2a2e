// Passes over one layer, the tap's translation from products to matrices, and shared K and V.
#include "runtime/layer_walk.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/error.h"

namespace lapidary {
namespace {

std::shared_ptr<Model> loaded(const ModelConfig& config) {
  validate(config);
  return std::make_shared<Model>(config);
}

EngineOptions engine_options(int context, int n_threads) {
  return {.n_threads = n_threads,
          .max_batch_tokens = context,
          .max_logits = 1,
          .activations = ActivationType::k16Bit};
}

// Loads before the forward pass measures what it needs.
const Model& load_all(ModelLoader& loader, const Model& model) {
  loader.load();
  return model;
}

}  // namespace

LayerWalk::LayerWalk(const ModelConfig& config, const TensorStore& store, int context,
                     int n_threads)
    : model_(loaded(config)),
      loader_(*model_, store),
      config_(model_->config()),
      forward_(load_all(loader_, *model_), engine_options(context, n_threads)),
      sequence_(std::make_unique<Sequence>(config_, context, KvOptions(KvCode::kF32), context)) {}

void LayerWalk::set_tap(InputTap tap) {
  tap_ = std::move(tap);
  if (tap_)
    forward_.set_product_tap([this](std::span<const Product> products, const float* x, int64_t k) {
      see(products, x, k);
    });
  else
    forward_.set_product_tap({});
}

void LayerWalk::begin(int64_t n_tokens) {
  std::vector<Row>& rows = forward_.workspace().rows;
  rows.clear();
  for (int64_t t = 0; t < n_tokens; ++t)
    rows.push_back({sequence_.get(), nullptr, t, 0, static_cast<int32_t>(t), /*wanted=*/true});
  forward_.fill_angles();
}

void LayerWalk::run(int layer, const Pass& pass) {
  Workspace& ws = forward_.workspace();
  const int64_t n = pass.n_tokens, d_model = config_.d_model;
  layer_ = layer;
  begin(n);
  if (config_.ple_width > 0) {
    std::copy_n(pass.embedded, n * d_model, ws.hidden.data());
    const int64_t all = int64_t{config_.n_layers()} * config_.ple_width;
    for (int64_t t = 0; t < n; ++t)
      std::copy_n(pass.ple + t * config_.ple_width, config_.ple_width,
                  ws.ple_token.row(t, all) + int64_t{layer} * config_.ple_width);
    // The projection's input is tapped by run_ple_input(), once for all layers.
    InputTap tap = std::move(tap_);
    tap_ = {};
    forward_.combine_ple_of(layer);
    tap_ = std::move(tap);
  }
  std::copy_n(pass.hidden, n * d_model, ws.hidden.data());
  const bool shares = shares_kv(layer);
  if (shares && !config_.owns_kv(layer)) copy_kv(layer, n, pass.kv, /*out=*/false);
  forward_.run_layer(layer);
  if (shares && config_.owns_kv(layer)) copy_kv(layer, n, pass.kv, /*out=*/true);
  std::copy_n(ws.hidden.data(), n * d_model, pass.hidden);
}

void LayerWalk::run_head_input(const float* hidden, int64_t n_tokens) {
  begin(n_tokens);
  Workspace& ws = forward_.workspace();
  std::copy_n(hidden, n_tokens * config_.d_model, ws.hidden.data());
  forward_.normalize(model_->final_norm);
  if (tap_) tap_({{&model_->head}, ws.normed.data(), n_tokens, config_.d_model, nullptr});
}

void LayerWalk::run_ple_input(const float* embedded, int64_t n_tokens) {
  if (tap_) tap_({{&model_->ple_model_projection}, embedded, n_tokens, config_.d_model, nullptr});
}

void LayerWalk::see(std::span<const Product> products, const float* x, int64_t k) {
  if (!tap_ || products.empty()) return;
  const LayerWeights& weights = model_->layers[static_cast<size_t>(layer_)];
  const auto is_of = [&](const std::vector<MatrixView>& stack) {
    return !stack.empty() && products[0].w >= stack.data() &&
           products[0].w < stack.data() + stack.size();
  };
  const bool is_down = is_of(weights.expert_down);
  if (is_down || is_of(weights.expert_gate_up)) {
    see_experts(products, x, k, is_down);
    return;
  }
  MatrixInput input{{}, x, static_cast<int64_t>(forward_.workspace().rows.size()), k, nullptr};
  for (const Product& product : products) {
    input.matrices.push_back(product.w);
    if (product.up.w) input.matrices.push_back(product.up.w);
  }
  tap_(input);
}

// Down: each expert has inputs of its own. Gate and up: all experts share the layer's, and a token
// counts by all of its experts' weights together.
void LayerWalk::see_experts(std::span<const Product> products, const float* x, int64_t k,
                            bool is_down) {
  Workspace& ws = forward_.workspace();
  const int n_used = config_.layers[static_cast<size_t>(layer_)].n_experts_used;
  const int64_t n = static_cast<int64_t>(ws.rows.size());
  if (is_down) {
    factors_.resize(static_cast<size_t>(n * n_used));
    for (int64_t slot = 0; slot < n * n_used; ++slot)
      factors_[static_cast<size_t>(ws.grouped_row.data()[slot])] = ws.chosen_weight.data()[slot];
    for (const Product& product : products)
      tap_(
          {{product.w}, x + product.first * k, product.n_rows, k, factors_.data() + product.first});
    return;
  }
  factors_.assign(static_cast<size_t>(n), 0.0f);
  rows_.resize(static_cast<size_t>(n * k));
  for (int64_t t = 0; t < n; ++t) {
    double squares = 0;
    for (int i = 0; i < n_used; ++i)
      squares += double{ws.chosen_weight.row(t, n_used)[i]} * ws.chosen_weight.row(t, n_used)[i];
    factors_[static_cast<size_t>(t)] = static_cast<float>(std::sqrt(squares));
    std::copy_n(x + ws.grouped_row.row(t, n_used)[0] * k, k, rows_.data() + t * k);
  }
  MatrixInput input{{}, rows_.data(), n, k, factors_.data()};
  for (const MatrixView& w : model_->layers[static_cast<size_t>(layer_)].expert_gate_up)
    input.matrices.push_back(&w);
  tap_(input);
}

bool LayerWalk::shares_kv(int layer) const {
  if (!config_.owns_kv(layer)) return true;
  for (int other = layer + 1; other < config_.n_layers(); ++other)
    if (!config_.owns_kv(other) && config_.layers[static_cast<size_t>(other)].kv_source == layer)
      return true;
  return false;
}

int64_t LayerWalk::kv_floats(int layer, int64_t n_tokens) const {
  const LayerConfig& shape = config_.layers[static_cast<size_t>(layer)];
  return 2 * n_tokens * shape.n_kv_heads * shape.head_dim;
}

void LayerWalk::copy_kv(int layer, int64_t n_tokens, float* kv, bool out) {
  const LayerConfig& shape = config_.layers[static_cast<size_t>(layer)];
  LAPIDARY_CHECK(kv != nullptr);
  const size_t bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  for (int64_t t = 0; t < n_tokens; ++t)
    for (int head = 0; head < shape.n_kv_heads; ++head) {
      const Sequence::Slot slot = sequence_->slot(shape.kv_source, t, head);
      for (void* side : {slot.keys, slot.values}) {
        if (out)
          std::memcpy(kv, side, bytes);
        else
          std::memcpy(side, kv, bytes);
        kv += shape.head_dim;
      }
    }
}

}  // namespace lapidary
