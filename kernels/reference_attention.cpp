// Softmax attention of one query token, scalar, keys in ascending position.
//
// The cache is a ring, but nothing here depends on its capacity or on where it wraps: engines with
// different rings must give the same bits.
#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "kernels/reference.h"

namespace lapidary::reference {
namespace {

double cached(const AttentionQuery& a, const void* cache, int64_t slot, int kv_head, int i) {
  const int64_t at = (slot * a.n_kv_heads + kv_head) * a.head_dim + i;
  return a.cache_is_bf16 ? bf16_to_float(static_cast<const uint16_t*>(cache)[at])
                         : static_cast<const float*>(cache)[at];
}

}  // namespace

void attention(const AttentionQuery& a, int first_head, int n_heads_here) noexcept {
  for (int head = first_head; head < first_head + n_heads_here; ++head) {
    const int kv_head = head / (a.n_heads / a.n_kv_heads);
    const float* q = a.q + int64_t{head} * a.head_dim;
    float* out = a.out + int64_t{head} * a.head_dim;

    float largest = -INFINITY;
    for (int64_t key = 0; key < a.n_keys; ++key) {
      const int64_t slot = (a.first_key + key) % a.capacity;
      double score = 0;
      for (int i = 0; i < a.head_dim; ++i) score += q[i] * cached(a, a.keys, slot, kv_head, i);
      a.scores[key] = static_cast<float>(score);
      largest = std::max(largest, a.scores[key]);
    }
    double sum = 0;
    for (int64_t key = 0; key < a.n_keys; ++key) {
      a.scores[key] = std::exp(a.scores[key] - largest);
      sum += a.scores[key];
    }
    for (int i = 0; i < a.head_dim; ++i) {
      double value = 0;
      for (int64_t key = 0; key < a.n_keys; ++key)
        value += a.scores[key] * cached(a, a.values, (a.first_key + key) % a.capacity, kv_head, i);
      out[i] = static_cast<float>(value / sum);
    }
  }
}

}  // namespace lapidary::reference
