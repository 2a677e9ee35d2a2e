// Embedding, attention, dense MLP, head, and the loop over layers that reads as the description
// does.
#include "runtime/forward.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

// Logits are soft-capped in pieces of fixed size: a vector kernel may treat the end of a run
// differently, and where a run ends must not depend on the number of threads.
constexpr int64_t kSoftcapPiece = 4096;

int64_t ple_row_bytes(const Model& model) {
  return model.ple_table ? static_cast<int64_t>(model.ple_geometry.row_bytes) : 0;
}

// What the widest product and the largest input need, over all layers.
struct LinearSizes {
  int64_t input_floats = 0, rows = 0, widest_output = 0, products = 4;

  void add(const MatrixView& w, int64_t n_rows) {
    if (w.rows == 0) return;
    const int64_t width = (w.k + kTileK - 1) / kTileK * kTileK;
    input_floats = std::max(input_floats, n_rows * width);
    rows = std::max(rows, n_rows);
    widest_output = std::max(widest_output, w.rows);
  }
};

LinearSizes linear_sizes(const Model& model, int64_t n_rows, int64_t max_logits) {
  LinearSizes sizes;
  sizes.add(model.head, max_logits);
  sizes.add(model.ple_model_projection, n_rows);
  for (size_t l = 0; l < model.layers.size(); ++l) {
    const LayerWeights& w = model.layers[l];
    for (const MatrixView* m : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down, &w.router,
                                &w.ple_gate, &w.ple_projection})
      sizes.add(*m, n_rows);
    const int64_t n_slots = n_rows * model.config().layers[l].n_experts_used;
    for (const MatrixView& m : w.expert_gate_up) sizes.add(m, n_slots);
    for (const MatrixView& m : w.expert_down) sizes.add(m, n_slots);
    sizes.products = std::max(sizes.products, static_cast<int64_t>(w.expert_down.size()));
  }
  return sizes;
}

Linear make_linear(const Model& model, const EngineOptions& options, ThreadPool& pool) {
  const LinearSizes sizes = linear_sizes(model, options.max_batch_tokens, options.max_logits);
  return Linear(kernels(), pool, options.activations, sizes.input_floats, sizes.rows,
                sizes.products, sizes.widest_output);
}

}  // namespace

Forward::Forward(const Model& model, const EngineOptions& options)
    : model_(model),
      config_(model.config()),
      kernels_(kernels()),
      pool_(options.n_threads),
      rope_(config_),
      workspace_(config_, options.max_batch_tokens, options.max_logits, rope_.width(),
                 ple_row_bytes(model)),
      linear_(make_linear(model, options, pool_)),
      page_attention_(config_, options.max_batch_tokens, kernels_, pool_) {
  for (int l = 0; l < config_.n_layers(); ++l)
    if (config_.owns_kv(l)) last_kv_layer_ = l;
  for (const LayerConfig& layer : config_.layers)
    expert_products_.reserve(static_cast<size_t>(layer.n_experts));
}

void Forward::run(const LayerTap& tap) {
  if (config_.ple_width > 0) read_ple();
  embed();
  if (config_.ple_width > 0) combine_ple();
  if (tap) tap(0, workspace_.hidden.data(), n());

  for (int l = 0; l < config_.n_layers(); ++l) {
    const LayerWeights& weights = model_.layers[l];
    attention(l);
    if (workspace_.rows.empty()) return;  // nobody wants logits: K and V were all there was to do
    if (config_.layers[l].n_experts > 0)
      mlp_with_experts(l);
    else
      mlp(l);
    if (config_.ple_width > 0) inject_ple(l);
    if (config_.layer_scalar) {
      float* h = workspace_.hidden.data();
      for (int64_t i = 0; i < n() * config_.d_model; ++i) h[i] *= weights.scalar;
    }
    if (tap) tap(l + 1, workspace_.hidden.data(), n());
  }

  norm(workspace_.hidden.data(), model_.final_norm, workspace_.normed.data());
  if (tap) tap(config_.n_layers() + 1, workspace_.normed.data(), n());
  head();
}

void Forward::embed() {
  Workspace& ws = workspace_;
  pool_.run(n(), [&](int64_t t) {
    float* h = ws.hidden.row(t, config_.d_model);
    kernels_.dequantize_rows(model_.embedding, ws.rows[t].token, 1, h);
    for (int i = 0; i < config_.d_model; ++i) h[i] *= config_.embedding_scale;
    rope_.fill(ws.rows[t].position, ws.rope.row(t, rope_.width()));
  });
}

void Forward::mlp(int layer) {
  Workspace& ws = workspace_;
  norm(ws.hidden.data(), model_.layers[layer].pre_ff_norm, ws.normed.data());
  dense_mlp(layer, ws.normed.data(), ws.branch.data());
  add_branch(ws.branch.data(), model_.layers[layer].post_ff_norm);
}

void Forward::dense_mlp(int layer, const float* x, float* out) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const int64_t d_ff = config_.layers[layer].d_ff;
  linear_.multiply(x, ws.rows, config_.d_model,
                   {{&weights.gate, ws.gate.data()}, {&weights.up, ws.up.data()}});
  pool_.run(n(), [&](int64_t t) {
    float* gate = ws.gate.row(t, d_ff);
    activate(gate, ws.up.row(t, d_ff), d_ff, gate);
  });
  linear_.multiply(ws.gate.data(), ws.rows, d_ff, {{&weights.down, out}});
}

void Forward::head() {
  Workspace& ws = workspace_;
  const int64_t vocab = config_.vocab_size;
  linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {{&model_.head, ws.logits.data()}});
  if (config_.logit_softcap == 0.0f) return;
  const int64_t pieces = (vocab + kSoftcapPiece - 1) / kSoftcapPiece;
  pool_.run(n() * pieces, [&](int64_t item) {
    const int64_t first = item % pieces * kSoftcapPiece;
    kernels_.softcap(ws.logits.row(item / pieces, vocab) + first,
                     std::min(kSoftcapPiece, vocab - first), config_.logit_softcap);
  });
}

void Forward::norm(const float* x, const std::vector<float>& weight, float* out) {
  const float offset = config_.norm_unit_offset ? 1.0f : 0.0f;
  const int64_t width = config_.d_model;
  pool_.run(n(), [&](int64_t t) {
    kernels_.rms_norm(x + t * width, weight.data(), offset, config_.norm_eps, 1, width,
                      out + t * width);
  });
}

void Forward::add_branch(float* branch, const std::vector<float>& weight) {
  if (config_.sandwich_norms) norm(branch, weight, branch);
  pool_.run(n(), [&](int64_t t) {
    float* h = workspace_.hidden.row(t, config_.d_model);
    const float* b = branch + t * config_.d_model;
    for (int i = 0; i < config_.d_model; ++i) h[i] += b[i];
  });
}

void Forward::activate(const float* gate, const float* up, int64_t width, float* out) const {
  if (config_.activation == Activation::kSilu)
    kernels_.silu_mul(gate, up, width, out);
  else
    kernels_.gelu_mul(gate, up, width, out);
}

}  // namespace lapidary
