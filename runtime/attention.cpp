// Attention of one layer: projections, per-head norms and RoPE, K and V into the caches, softmax.
// Formulas: transformers' modeling_gemma4.py.
#include <algorithm>

#include "runtime/forward.h"

namespace lapidary {

void Forward::attention(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const bool owns_kv = config_.owns_kv(layer);
  const auto make_normed = [&](int64_t t) { norm(t, ws.hidden, weights.input_norm, ws.normed); };
  const Product q{&weights.q, ws.q.data()};
  const Product k{&weights.k, ws.k.data()};
  const Product v{&weights.v, ws.v.data()};
  if (!owns_kv)
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {q}, make_normed);
  else if (config_.layers[layer].k_eq_v)
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {q, k}, make_normed);
  else
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {q, k, v}, make_normed);

  pool_.run(n(), [&](int64_t t) {
    finish_q(layer, t);
    if (owns_kv) store_kv(layer, t);
  });
  if (layer == last_kv_layer_) drop_unwanted_rows();
  if (ws.rows.empty()) return;
  page_attention_.run(config_.layers[layer], ws.rows, ws.q.data(), ws.attended.data());
  linear_.multiply(ws.attended.data(), ws.rows, weights.o.k, {{&weights.o, ws.branch.data()}});
  leave_branch(weights.post_attention_norm);
}

// Per-head norm, RoPE and the attention scale.
void Forward::finish_q(int layer, int64_t t) {
  const LayerConfig& shape = config_.layers[layer];
  const int64_t width = int64_t{shape.n_heads} * shape.head_dim;
  const float* angles = workspace_.rope.row(workspace_.rows[t].source, rope_.width());
  float* q = workspace_.q.row(t, width);
  if (config_.qk_norm)
    kernels_.rms_norm(q, model_.layers[layer].q_norm.data(), config_.norm_unit_offset ? 1.0f : 0.0f,
                      config_.norm_eps, shape.n_heads, shape.head_dim, q);
  kernels_.rope(q, rope_.cosines(angles, layer), rope_.sines(angles, layer), shape.n_heads,
                shape.head_dim);
  for (int64_t i = 0; i < width; ++i) q[i] *= config_.attention_scale;
}

// K and V of one token, finished and rounded into its sequence, before any query of the step reads.
void Forward::store_kv(int layer, int64_t t) {
  const LayerConfig& shape = config_.layers[layer];
  const int64_t width = int64_t{shape.n_kv_heads} * shape.head_dim;
  const Row& row = workspace_.rows[t];
  const float* angles = workspace_.rope.row(row.source, rope_.width());
  float* k = workspace_.k.row(t, width);
  float* v = workspace_.v.row(t, width);
  if (shape.k_eq_v) std::copy_n(k, width, v);  // the raw projection: before k's norm and RoPE
  if (config_.v_norm)
    kernels_.rms_norm(v, nullptr, 0.0f, config_.norm_eps, shape.n_kv_heads, shape.head_dim, v);
  if (config_.qk_norm)
    kernels_.rms_norm(k, model_.layers[layer].k_norm.data(), config_.norm_unit_offset ? 1.0f : 0.0f,
                      config_.norm_eps, shape.n_kv_heads, shape.head_dim, k);
  kernels_.rope(k, rope_.cosines(angles, layer), rope_.sines(angles, layer), shape.n_kv_heads,
                shape.head_dim);

  for (int head = 0; head < shape.n_kv_heads; ++head) {
    const Sequence::Slot slot = row.sequence->slot(layer, row.position, head);
    const int64_t first = int64_t{head} * shape.head_dim;
    if (row.sequence->kv() == KvCode::kF32) {
      std::copy_n(k + first, shape.head_dim, static_cast<float*>(slot.keys));
      std::copy_n(v + first, shape.head_dim, static_cast<float*>(slot.values));
    } else {
      kernels_.float_to_bf16(k + first, shape.head_dim, static_cast<uint16_t*>(slot.keys));
      kernels_.float_to_bf16(v + first, shape.head_dim, static_cast<uint16_t*>(slot.values));
    }
  }
}

// From the last layer that owns K and V on, a token serves nobody but its own logits.
void Forward::drop_unwanted_rows() {
  Workspace& ws = workspace_;
  const LayerConfig& shape = config_.layers[last_kv_layer_];
  const int64_t q_width = int64_t{shape.n_heads} * shape.head_dim, d_model = config_.d_model;
  size_t kept = 0;
  for (size_t t = 0; t < ws.rows.size(); ++t) {
    if (!ws.rows[t].wanted) continue;
    if (kept != t) {
      ws.rows[kept] = ws.rows[t];
      std::copy_n(ws.hidden.row(t, d_model), d_model, ws.hidden.row(kept, d_model));
      std::copy_n(ws.q.row(t, q_width), q_width, ws.q.row(kept, q_width));
    }
    ++kept;
  }
  ws.rows.resize(kept);
}

}  // namespace lapidary
