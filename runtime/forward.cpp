// Embedding, dense MLP, and the loop over layers that reads as the description
// does.
#include "runtime/forward.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

int64_t ple_row_bytes(const Model& model) {
  return model.ple_table ? static_cast<int64_t>(model.ple_geometry.row_bytes) : 0;
}

// What the widest product and the largest input need, over all layers.
LinearSizes linear_sizes(const Model& model, int64_t max_tokens, int64_t max_logits) {
  LinearSizes sizes;
  const auto add = [&](const MatrixView& w, int64_t n_rows) {
    if (w.rows == 0) return;
    const int64_t width = (w.k + kTileK - 1) / kTileK * kTileK;
    sizes.n_floats = std::max(sizes.n_floats, n_rows * width);
    sizes.n_rows = std::max(sizes.n_rows, n_rows);
    sizes.widest_output = std::max(sizes.widest_output, w.rows);
  };
  add(model.head, max_logits);
  add(model.ple_model_projection, max_tokens);
  for (size_t l = 0; l < model.layers.size(); ++l) {
    const LayerWeights& w = model.layers[l];
    for (const MatrixView* m :
         {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down, &w.ple_gate, &w.ple_projection})
      add(*m, max_tokens);
    const int64_t n_slots = max_tokens * model.config().layers[l].n_experts_used;
    for (const MatrixView& m : w.expert_gate_up) add(m, n_slots);
    for (const MatrixView& m : w.expert_down) add(m, n_slots);
    sizes.n_products = std::max(sizes.n_products, static_cast<int64_t>(w.expert_down.size()));
  }
  return sizes;
}

// The router's alone.
LinearSizes router_sizes(const Model& model, int64_t max_tokens) {
  LinearSizes sizes;
  for (const LayerWeights& layer : model.layers) {
    const MatrixView& w = layer.router;
    if (w.rows == 0) continue;
    sizes.n_rows = max_tokens;
    sizes.n_floats = std::max(sizes.n_floats, max_tokens * ((w.k + kTileK - 1) / kTileK * kTileK));
    sizes.widest_output = std::max(sizes.widest_output, w.rows);
  }
  return sizes;
}

InputBits fine_bits(ActivationType activations) {
  return activations == ActivationType::kInt8 ? InputBits::kTwice8 : InputBits::kFloat;
}

// Those of the matrices that linear_for names.
LinearSizes fine_sizes(const Model& model, int64_t max_tokens, int64_t max_logits) {
  LinearSizes sizes;
  const auto add = [&](const MatrixView& w, int64_t n_rows) {
    sizes.n_floats = std::max(sizes.n_floats, n_rows * ((w.k + kTileK - 1) / kTileK * kTileK));
    sizes.n_rows = std::max(sizes.n_rows, n_rows);
    sizes.widest_output = std::max(sizes.widest_output, w.rows);
  };
  add(model.head, max_logits);
  for (const LayerWeights& layer : model.layers) add(layer.o, max_tokens);
  return sizes;
}

GatedActivation gated_activation(const ModelConfig& config) {
  return config.activation == Activation::kSilu ? kernels().silu_mul : kernels().gelu_mul;
}

}  // namespace

Forward::Forward(const Model& model, const EngineOptions& options,
                 const std::optional<Target>& target)
    : model_(model),
      config_(model.config()),
      kernels_(kernels()),
      pool_(target ? target->pool : own_pool_.emplace(options.n_threads)),
      rope_(config_),
      workspace_(config_, options.max_batch_tokens, options.max_logits, rope_.width(),
                 ple_row_bytes(model), pool_.n_threads()),
      gated_(gated_activation(config_)),
      linear_(kernels_, pool_, bits_of(options.activations), gated_,
              linear_sizes(model, options.max_batch_tokens, options.max_logits)),
      router_linear_(kernels_, pool_, InputBits::kFloat, gated_,
                     router_sizes(model, options.max_batch_tokens)),
      fine_linear_(kernels_, pool_, fine_bits(options.activations), gated_,
                   fine_sizes(model, options.max_batch_tokens, options.max_logits)),
      page_attention_(config_, options.max_batch_tokens, kernels_, pool_),
      v_only_(v_only_layers(target ? target->model : model)) {
  for (int l = 0; l < config_.n_layers(); ++l)
    if (config_.owns_kv(l)) last_kv_layer_ = l;
  // A sequence's n tokens are the first to read at most n pages packed.
  for (const LayerConfig& layer : config_.layers)
    pages_to_pack_.reserve(std::max(
        pages_to_pack_.capacity(),
        static_cast<size_t>(options.max_batch_tokens) * static_cast<size_t>(layer.n_kv_heads)));
  for (const LayerConfig& layer : config_.layers)
    expert_products_.reserve(static_cast<size_t>(layer.n_experts));
}

void Forward::run(int n_best, const LayerTap& tap, const LayerStart* start) {
  if (config_.ple_width > 0) read_ple();
  embed();
  if (config_.ple_width > 0) combine_ple();
  if (tap) tap(0, workspace_.hidden.data(), n());

  if (start) std::copy_n(start->hidden, n() * config_.d_model, workspace_.hidden.data());
  for (int l = start ? start->layer : 0; l < config_.n_layers(); ++l) {
    run_layer(l);
    if (workspace_.rows.empty()) return;  // nobody wants logits: K and V were all there was to do
    if (tap) tap(l + 1, workspace_.hidden.data(), n());
  }
  head(n_best, tap);
}

void Forward::run_layer(int layer) {
  attention(layer);
  if (workspace_.rows.empty()) return;
  if (config_.layers[layer].n_experts > 0)
    mlp_with_experts(layer);
  else
    mlp(layer);
  if (config_.ple_width > 0) inject_ple(layer);
  finish_layer(layer);
}

void Forward::embed() {
  Workspace& ws = workspace_;
  pool_.run(n(), [&](int64_t t) {
    float* h = ws.hidden.row(t, config_.d_model);
    kernels_.dequantize_rows(model_.embedding, ws.rows[t].token, 1, h);
    for (int i = 0; i < config_.d_model; ++i) h[i] *= config_.embedding_scale;
  });
  fill_angles();
}

void Forward::fill_angles() {
  pool_.run(n(), [&](int64_t t) {
    rope_.fill(workspace_.rows[t].position, workspace_.rope.row(t, rope_.width()));
  });
}

void Forward::normalize(const std::vector<float>& weight) {
  pool_.run(n(), [&](int64_t t) { norm(t, workspace_.hidden, weight, workspace_.normed); });
}

void Forward::set_product_tap(const ProductTap& tap) {
  linear_.set_tap(tap);
  router_linear_.set_tap(tap);
  fine_linear_.set_tap(tap);
}

// Beside near-lossless weights, those with a scale for each 128 inputs or fewer, int8 inputs would
// lose more than the weights do. These two make a third of that loss with a tenth of a prompt's
// products, of which only the last token's logits are wanted (docs/results.md).
Linear& Forward::linear_for(const MatrixView& w) {
  const CodeTraits& code = traits(w.code);
  return code.is_float || code.scale_k > 128 ? linear_ : fine_linear_;
}

void Forward::mlp(int layer) {
  dense_mlp(layer);
  leave_branch(model_.layers[layer].post_ff_norm);
}

// branch = down(activation(gate(norm(hidden))) * up(norm(hidden)))
void Forward::dense_mlp(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const int64_t d_ff = config_.layers[layer].d_ff;
  const Product down{&weights.down, ws.branch.data()};
  const auto make_normed = [&](int64_t t) {
    join_branch(t);
    norm(t, ws.hidden, weights.pre_ff_norm, ws.normed);
  };
  if (!linear_.any_adapted(ws.rows, weights.gate) && !linear_.any_adapted(ws.rows, weights.up)) {
    const Product gated{
        .w = &weights.gate, .y = ws.gate.data(), .up = {.w = &weights.up, .width = d_ff}};
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {gated}, make_normed);
    linear_.multiply(ws.gate.data(), ws.rows, d_ff, {down});
    return;
  }
  // An adapter's part must be added before the activation: no fused product.
  linear_.multiply(ws.normed.data(), ws.rows, config_.d_model,
                   {{&weights.gate, ws.gate.data()}, {&weights.up, ws.up.data()}}, make_normed);
  linear_.multiply(ws.gate.data(), ws.rows, d_ff, {down}, [&](int64_t t) {
    float* gate = ws.gate.row(t, d_ff);
    gated_(gate, ws.up.row(t, d_ff), d_ff, gate);
  });
}

void Forward::finish_layer(int layer) {
  const float scalar = config_.layer_scalar ? model_.layers[layer].scalar : 1.0f;
  LAPIDARY_CHECK(branch_norm_);
  pool_.run(n(), [&](int64_t t) { join_branch(t, scalar); });
  branch_norm_ = nullptr;
}

void Forward::norm(int64_t t, AlignedBuffer<float>& x, const std::vector<float>& weight,
                   AlignedBuffer<float>& out) {
  const int64_t width = config_.d_model;
  kernels_.rms_norm(x.row(t, width), weight.data(), config_.norm_unit_offset ? 1.0f : 0.0f,
                    config_.norm_eps, 1, width, out.row(t, width));
}

void Forward::join_branch(int64_t t, float factor) {
  if (!branch_norm_) return;
  Workspace& ws = workspace_;
  if (config_.sandwich_norms) norm(t, ws.branch, *branch_norm_, ws.branch);
  kernels_.add(ws.hidden.row(t, config_.d_model), ws.branch.row(t, config_.d_model), factor,
               config_.d_model);
}

}  // namespace lapidary
