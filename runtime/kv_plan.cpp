// Pages of each layer. Rings are as long as the oldest token that a query of a step, or one after a
// rollback, may still read.
#include "runtime/kv_plan.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

// More than any machine's memory, and far from overflow in the sums below.
constexpr uint64_t kMostBytes = uint64_t{1} << 46;

int64_t pages_of(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// A step writes its tokens before its first query reads; that query, or one 64 tokens before the
// end, reads back to the tail before its own page, and the page before that is packed meanwhile.
int64_t tail_ring_pages(const ExactEnds& ends, int max_batch_tokens) {
  return ends.tail / kPageTokens + 2 + pages_of(max_batch_tokens);
}

KvLayerPlan plan_layer(const ModelConfig& config, const KvOptions& options, int layer,
                       int64_t capacity, int max_batch_tokens) {
  const LayerConfig& shape = config.layers[layer];
  KvLayerPlan plan;
  plan.layer = layer;
  plan.sliding = shape.attention == AttentionKind::kSliding;
  plan.window = shape.window;
  plan.n_kv_heads = shape.n_kv_heads;
  plan.head_dim = shape.head_dim;
  plan.ends = layer_ends(config, options, layer);
  plan.code = layer_code(config, options, layer);
  // Within the tail a window never reaches a packed token.
  if (plan.sliding && shape.window <= plan.ends.tail && plan.code.packed()) plan.code = {};

  const uint64_t values = uint64_t(shape.n_kv_heads) * uint64_t(shape.head_dim);
  plan.plain_row_bytes = 2 * values * sizeof(uint16_t);
  const uint64_t value_bytes = plan.code.keys == KvCode::kF32 ? sizeof(float) : sizeof(uint16_t);
  plan.exact_row_bytes = (plan.code.v_only ? 1 : 2) * values * value_bytes;

  const int64_t all = pages_of(capacity);
  const int64_t window_pages =
      plan.sliding
          ? std::min(all,
                     pages_of(shape.window + int64_t{std::max(max_batch_tokens, kRollbackTokens)}))
          : all;
  if (!plan.code.packed()) {
    plan.ring_pages = window_pages;
    return plan;
  }
  if (plan.code.v_only) {
    plan.value_page =
        kv_page_geometry(KvRole::kBoth, plan.code.values, shape.head_dim, rotary_dims(shape));
  } else {
    plan.key_page = kv_page_geometry(KvRole::kKeys, plan.code.keys, shape.head_dim);
    plan.value_page = kv_page_geometry(KvRole::kValues, plan.code.values, shape.head_dim);
  }
  plan.sink_pages = std::min<int64_t>(all, plan.ends.sink / kPageTokens);
  plan.ring_pages =
      std::clamp<int64_t>(all - plan.sink_pages, 1, tail_ring_pages(plan.ends, max_batch_tokens));
  const int64_t most = std::max<int64_t>(
      1, packed_end(plan.ends, capacity - 1) / kPageTokens - plan.ends.sink / kPageTokens);
  plan.packed_pages = plan.sliding ? std::min(most, window_pages + 2) : most;
  return plan;
}

}  // namespace

uint64_t KvLayerPlan::reserved_bytes() const {
  return uint64_t(exact_pages()) * kPageTokens * exact_row_bytes +
         uint64_t(packed_pages) * packed_page_bytes();
}

uint64_t KvLayerPlan::held_bytes(int64_t n_tokens) const {
  if (n_tokens <= 0) return 0;
  const int64_t first = sliding ? std::max<int64_t>(0, n_tokens - window) : 0;
  if (!code.packed()) return uint64_t(n_tokens - first) * exact_row_bytes;
  const int64_t packed_from = std::max<int64_t>(ends.sink, first / kPageTokens * kPageTokens);
  const int64_t packed_to = packed_end(ends, n_tokens - 1);
  const int64_t exact_from =
      std::max(first, packed_end(ends, std::max<int64_t>(0, n_tokens - kRollbackTokens)));
  const int64_t exact =
      std::min<int64_t>(n_tokens, ends.sink) + std::max<int64_t>(0, n_tokens - exact_from);
  const int64_t packed = std::max<int64_t>(0, packed_to - packed_from) / kPageTokens;
  return uint64_t(exact) * exact_row_bytes + uint64_t(packed) * packed_page_bytes();
}

uint64_t KvLayerPlan::plain_bytes(int64_t n_tokens) const {
  return uint64_t(sliding ? std::min<int64_t>(n_tokens, window) : n_tokens) * plain_row_bytes;
}

double KvLayerPlan::bytes_per_token() const {
  if (sliding) return 0;
  return code.packed() ? double(packed_page_bytes()) / kPageTokens : double(exact_row_bytes);
}

KvPlan plan_kv(const ModelConfig& config, const KvOptions& options, int64_t capacity,
               int max_batch_tokens) {
  // Positions are also counted in 32 bits by callers' token arrays.
  if (capacity < 1 || capacity > INT32_MAX)
    fail(ErrorCode::kUsage, "context of {} tokens: expected 1 to {}", capacity, INT32_MAX);
  if (max_batch_tokens < 1)
    fail(ErrorCode::kUsage, "max_batch_tokens is {}: expected at least 1", max_batch_tokens);
  check_kv(config, options);
  KvPlan plan;
  for (int l = 0; l < config.n_layers(); ++l) {
    if (!config.owns_kv(l)) continue;
    const KvLayerPlan layer = plan_layer(config, options, l, capacity, max_batch_tokens);
    // validate() keeps heads and head_dim below 2^24 and 2^10, so a row is below 2^38 bytes.
    const uint64_t row = std::max(layer.exact_row_bytes, layer.plain_row_bytes);
    const uint64_t pages = uint64_t(layer.exact_pages() + layer.packed_pages);
    if (row > kMostBytes / kPageTokens / pages ||
        plan.reserved_bytes > kMostBytes - layer.reserved_bytes())
      fail(ErrorCode::kOutOfMemory,
           "KV cache for {} tokens is beyond {} bytes; use a smaller context", capacity,
           kMostBytes);
    plan.reserved_bytes += layer.reserved_bytes();
    plan.layers.push_back(layer);
  }
  return plan;
}

}  // namespace lapidary
