// Attention of one layer: projections, per-head norms and RoPE, K and V into the caches, softmax.
// Formulas: transformers' modeling_gemma4.py.
#include <algorithm>

#include "runtime/forward.h"
#include "runtime/lanes.h"

namespace lapidary {

void Forward::attention(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const bool owns_kv = config_.owns_kv(layer);
  norm(ws.hidden.data(), weights.input_norm, ws.normed.data());

  const Product q{&weights.q, ws.q.data()};
  const Product k{&weights.k, ws.k.data()};
  const Product v{&weights.v, ws.v.data()};
  if (!owns_kv)
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {q});
  else if (config_.layers[layer].k_eq_v)
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {q, k});
  else
    linear_.multiply(ws.normed.data(), ws.rows, config_.d_model, {q, k, v});

  pool_.run(n(), [&](int64_t t) {
    finish_q(layer, t);
    if (owns_kv) store_kv(layer, t);
  });
  if (layer == last_kv_layer_) drop_unwanted_rows();
  if (ws.rows.empty()) return;
  attend(layer);
  linear_.multiply(ws.attended.data(), ws.rows, weights.o.k, {{&weights.o, ws.branch.data()}});
  add_branch(ws.branch.data(), weights.post_attention_norm);
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

  const Sequence::LayerCache& cache = row.sequence->layer(layer);
  const int64_t first = row.position % cache.slots * width;
  if (row.sequence->kv() == KvCode::kF32) {
    std::copy_n(k, width, static_cast<float*>(cache.keys) + first);
    std::copy_n(v, width, static_cast<float*>(cache.values) + first);
  } else {
    kernels_.float_to_bf16(k, width, static_cast<uint16_t*>(cache.keys) + first);
    kernels_.float_to_bf16(v, width, static_cast<uint16_t*>(cache.values) + first);
  }
}

void Forward::attend(int layer) {
  Workspace& ws = workspace_;
  const LayerConfig& shape = config_.layers[layer];
  const int64_t width = int64_t{shape.n_heads} * shape.head_dim;
  // Query heads of one K/V head share its reads, unless that leaves threads without work.
  const int group = shape.n_heads / shape.n_kv_heads;
  const int heads_per_item = n() * shape.n_kv_heads >= pool_.n_threads() ? group : 1;
  const int64_t items_per_row = shape.n_heads / heads_per_item;
  run_in_lanes(pool_, n() * items_per_row, [&](int64_t lane, int64_t item) {
    const int64_t t = item / items_per_row;
    const Row& row = ws.rows[t];
    const Sequence::LayerCache& cache = row.sequence->layer(shape.kv_source);
    AttentionQuery query{};
    query.q = ws.q.row(t, width);
    query.out = ws.attended.row(t, width);
    query.keys = cache.keys;
    query.values = cache.values;
    query.scores = ws.scores.row(lane, ws.scores_per_lane);
    query.first_key = shape.attention == AttentionKind::kSliding
                          ? std::max<int64_t>(0, row.position - shape.window + 1)
                          : 0;
    query.n_keys = row.position + 1 - query.first_key;
    query.capacity = cache.slots;
    query.n_heads = shape.n_heads;
    query.n_kv_heads = shape.n_kv_heads;
    query.head_dim = shape.head_dim;
    query.cache_is_bf16 = row.sequence->kv() == KvCode::kBF16;
    kernels_.attention(query, static_cast<int>(item % items_per_row) * heads_per_item,
                       heads_per_item);
  });
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
