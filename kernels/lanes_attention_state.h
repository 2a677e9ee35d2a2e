// What becomes of running softmaxes after their pages, for vectors of 8 and 16 lanes: sums of later
// pages are added to those of earlier ones, and the result is divided by its sum.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::lanes {

template <class V>
static float exp_of(float x) {
  return V::first(V::exp(V::set(x)));
}

// total = total * earlier + part * later
template <class V>
static void blend(const float* part, int n, float earlier, float later, float* total) {
  const auto a = V::set(earlier), b = V::set(later);
  int i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes)
    V::store(total + i, V::multiply_add(V::load(total + i), a, V::multiply(V::load(part + i), b)));
  if (i < n)
    V::store_partial(total + i, n - i,
                     V::multiply_add(V::load_partial(total + i, n - i), a,
                                     V::multiply(V::load_partial(part + i, n - i), b)));
}

// kernels.h, merge_attention.
template <class V>
static void merge_attention(const AttentionState& part, int64_t n_rows, int head_dim,
                            const AttentionState& total) {
  for (int64_t row = 0; row < n_rows; ++row) {
    const float earlier_max = total.max[row], later_max = part.max[row];
    if (later_max == -__builtin_inff()) continue;
    const float* from = part.out + row * head_dim;
    float* to = total.out + row * head_dim;
    if (earlier_max == -__builtin_inff()) {
      std::memcpy(to, from, static_cast<size_t>(head_dim) * sizeof(float));
      total.sum[row] = part.sum[row];
      total.max[row] = later_max;
      continue;
    }
    const float max = later_max > earlier_max ? later_max : earlier_max;
    const float earlier = exp_of<V>(earlier_max - max), later = exp_of<V>(later_max - max);
    blend<V>(from, head_dim, earlier, later, to);
    total.sum[row] = total.sum[row] * earlier + part.sum[row] * later;
    total.max[row] = max;
  }
}

// kernels.h, finish_attention.
template <class V>
static void finish_attention(const AttentionState& state, const AttentionTile& tile, float* out) {
  const int d = tile.head_dim;
  for (int64_t row = 0; row < int64_t{tile.n_tokens} * tile.group; ++row) {
    const float* from = state.out + row * d;
    float* to = out + row / tile.group * tile.q_stride + row % tile.group * d;
    const auto sum = V::set(state.sum[row]);
    int i = 0;
    for (; i + V::kLanes <= d; i += V::kLanes) V::store(to + i, V::divide(V::load(from + i), sum));
    if (i < d) V::store_partial(to + i, d - i, V::divide(V::load_partial(from + i, d - i), sum));
  }
}

}  // namespace lapidary::lanes
