// Attention of one layer: projections, per-head norms and RoPE, K and V into the caches, softmax.
// Formulas: transformers' modeling_gemma4.py.
#include <algorithm>

#include "kernels/kv_pages.h"
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
  if (owns_kv) pack_pages(layer);
  if (layer == last_kv_layer_) drop_unwanted_rows();
  if (ws.rows.empty()) return;
  const LayerConfig& shape = config_.layers[layer];
  const RotaryKeys rotary = v_only_[static_cast<size_t>(shape.kv_source)].keys();
  page_attention_.run(shape, ws.rows, ws.q.data(), ws.attended.data(), &rotary);
  leave_cache_basis(layer);
  linear_for(weights.o).multiply(ws.attended.data(), ws.rows, weights.o.k,
                                 {{&weights.o, ws.branch.data()}});
  leave_branch(weights.post_attention_norm);
}

// Per-head norm, RoPE and the attention scale, in the basis of the cache it will read.
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

  const KvLayerCode& code = workspace_.rows[t].sequence->plan(shape.kv_source).code;
  const VOnlyLayer& v_only = v_only_[static_cast<size_t>(shape.kv_source)];
  if (code.v_only)
    query_to_shared_basis(kernels_, q, shape.n_heads, shape.head_dim, v_only.n_rotary,
                          v_only.w_k.data());
  else if (code.packed())
    kernels_.kv_rotate(q, shape.n_heads, shape.head_dim, shape.head_dim);
}

// Attention mixes values as the cache holds them; back to the model's basis, where that differs.
void Forward::leave_cache_basis(int layer) {
  const LayerConfig& shape = config_.layers[layer];
  const auto code = [&](const Row& row) { return row.sequence->plan(shape.kv_source).code; };
  const auto& rows = workspace_.rows;
  if (std::none_of(rows.begin(), rows.end(), [&](const Row& row) { return code(row).packed(); }))
    return;
  pool_.run(n(), [&](int64_t t) {
    float* out = workspace_.attended.row(t, int64_t{shape.n_heads} * shape.head_dim);
    if (code(rows[t]).v_only)
      from_shared_basis(kernels_, out, shape.n_heads, shape.head_dim,
                        v_only_[static_cast<size_t>(shape.kv_source)].n_rotary);
    else if (code(rows[t]).packed())
      kernels_.kv_unrotate(out, shape.n_heads, shape.head_dim, shape.head_dim);
  });
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
  const KvLayerCode& code = row.sequence->plan(layer).code;
  if (code.v_only) {
    to_shared_basis(kernels_, v, shape.n_kv_heads, shape.head_dim,
                    v_only_[static_cast<size_t>(layer)].n_rotary);
    put_kv(layer, row, nullptr, v);
    return;
  }
  if (config_.qk_norm)
    kernels_.rms_norm(k, model_.layers[layer].k_norm.data(), config_.norm_unit_offset ? 1.0f : 0.0f,
                      config_.norm_eps, shape.n_kv_heads, shape.head_dim, k);
  kernels_.rope(k, rope_.cosines(angles, layer), rope_.sines(angles, layer), shape.n_kv_heads,
                shape.head_dim);
  if (code.packed())
    for (float* x : {k, v}) kernels_.kv_rotate(x, shape.n_kv_heads, shape.head_dim, shape.head_dim);
  put_kv(layer, row, k, v);
}

// Rounds K (null: not stored) and V [n_kv_heads, head_dim] into the sequence.
void Forward::put_kv(int layer, const Row& row, const float* k, const float* v) {
  const LayerConfig& shape = config_.layers[layer];
  const bool f32 = row.sequence->plan(layer).code.values == KvCode::kF32;
  const auto put = [&](const float* from, void* to) {
    if (f32)
      std::copy_n(from, shape.head_dim, static_cast<float*>(to));
    else
      kernels_.float_to_bf16(from, shape.head_dim, static_cast<uint16_t*>(to));
  };
  for (int head = 0; head < shape.n_kv_heads; ++head) {
    const Sequence::Slot slot = row.sequence->slot(layer, row.position, head);
    const int64_t first = int64_t{head} * shape.head_dim;
    if (k) put(k + first, slot.keys);
    put(v + first, slot.values);
  }
}

// Pages that a query of this step is the first to read packed: from their 16-bit values, so that it
// does not matter in which step, or how often, they are packed.
void Forward::pack_pages(int layer) {
  const std::vector<Row>& rows = workspace_.rows;
  pages_to_pack_.clear();
  for (size_t t = 0; t < rows.size(); ++t) {
    if (t + 1 < rows.size() && rows[t + 1].sequence == rows[t].sequence) continue;
    const auto range = rows[t].sequence->unpacked_pages(layer, rows[t].position);
    for (int64_t page = range.first; page < range.end; ++page)
      for (int head = 0; head < config_.layers[layer].n_kv_heads; ++head)
        pages_to_pack_.push_back({rows[t].sequence, page, head});
  }
  if (pages_to_pack_.empty()) return;
  pool_.run(static_cast<int64_t>(pages_to_pack_.size()), [&](int64_t i) {
    const PageToPack& p = pages_to_pack_[static_cast<size_t>(i)];
    p.sequence->pack_page(kernels_, layer, p.page, p.kv_head);
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
