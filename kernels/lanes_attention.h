// Softmax attention of one query token: three passes over the visible keys of each head, for
// vectors of 8 and 16 lanes (V as in lanes_matmul_float.h).
//
// A score is one dot product in V::kLanes lanes; the softmax runs over the scores in order of
// position; an output element is one chain over ascending keys. None of it sees the ring's capacity
// or wrap.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::lanes {

// The vectors of one kv head in the ring, visited in ascending position.
template <class T>
struct RingWalk {
  int64_t stride;
  const T* start;
  int64_t capacity, slot;
};

template <class T>
static inline RingWalk<T> walk_ring(const AttentionQuery& a, const void* cache, int kv_head) {
  return {int64_t{a.n_kv_heads} * a.head_dim,
          static_cast<const T*>(cache) + int64_t{kv_head} * a.head_dim, a.capacity,
          a.first_key % a.capacity};
}
template <class T>
static inline const T* next(RingWalk<T>& walk) {
  const T* here = walk.start + walk.slot * walk.stride;
  if (++walk.slot == walk.capacity) walk.slot = 0;
  return here;
}

// Four keys at a time to hide the latency of the sums; each score is the same as alone.
template <class V, class T>
static void compute_scores(const AttentionQuery& a, const float* q, int kv_head) {
  RingWalk<T> keys = walk_ring<T>(a, a.keys, kv_head);
  const int whole = a.head_dim / V::kLanes * V::kLanes, rest = a.head_dim - whole;
  for (int64_t first = 0; first < a.n_keys; first += 4) {
    const int64_t n_here = a.n_keys - first < 4 ? a.n_keys - first : 4;
    const T* key[4];
    for (int j = 0; j < 4; ++j) key[j] = j < n_here ? next(keys) : key[0];
    typename V::Floats sum[4] = {};
    for (int i = 0; i < whole; i += V::kLanes) {
      const auto query = V::load(q + i);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sum[j] = V::multiply_add(query, V::load(key[j] + i), sum[j]);
    }
    if (rest > 0)
      for (int j = 0; j < 4; ++j)
        sum[j] = V::multiply_add(V::load_partial(q + whole, rest),
                                 V::load_partial(key[j] + whole, rest), sum[j]);
    const __m128 scores = V::fold4(sum[0], sum[1], sum[2], sum[3]);
    if (n_here == 4)
      _mm_storeu_ps(a.scores + first, scores);
    else
      std::memcpy(a.scores + first, &scores, static_cast<size_t>(n_here) * sizeof(float));
  }
}

// Replaces scores by exp(score - largest); returns their sum.
template <class V>
static float exponentiate(float* scores, int64_t n) {
  auto largest = V::set(-__builtin_inff());
  const int64_t whole = n / V::kLanes * V::kLanes;
  for (int64_t i = 0; i < whole; i += V::kLanes) largest = V::max(largest, V::load(scores + i));
  float shift = V::fold_max(largest);
  for (int64_t i = whole; i < n; ++i) shift = scores[i] > shift ? scores[i] : shift;
  const auto shifts = V::set(shift);
  auto sum = V::set(0.0f);
  for (int64_t i = 0; i < whole; i += V::kLanes) {
    const auto e = V::exp(V::subtract(V::load(scores + i), shifts));
    V::store(scores + i, e);
    sum = V::add(sum, e);
  }
  if (whole < n) {
    const int64_t rest = n - whole;
    V::store_partial(scores + whole, rest,
                     V::exp(V::subtract(V::load_partial(scores + whole, rest), shifts)));
    sum = V::add(sum, V::load_partial(scores + whole, rest));
  }
  return V::fold(sum);
}

// out[0 .. Vectors * V::kLanes) = inverse * sum of weight * value over all keys.
template <class V, int Vectors, class T>
static void weighted_sum(const AttentionQuery& a, int kv_head, int offset, float inverse,
                         float* out) {
  RingWalk<T> values = walk_ring<T>(a, a.values, kv_head);
  typename V::Floats sum[Vectors] = {};
  for (int64_t key = 0; key < a.n_keys; ++key) {
    const T* value = next(values) + offset;
    const auto weight = V::set(a.scores[key]);
#pragma GCC unroll 16
    for (int i = 0; i < Vectors; ++i)
      sum[i] = V::multiply_add(weight, V::load(value + V::kLanes * i), sum[i]);
  }
  for (int i = 0; i < Vectors; ++i)
    V::store(out + V::kLanes * i, V::multiply(sum[i], V::set(inverse)));
}

template <class V, class T>
static void weighted_tail(const AttentionQuery& a, int kv_head, int offset, float inverse,
                          float* out) {
  RingWalk<T> values = walk_ring<T>(a, a.values, kv_head);
  const int rest = a.head_dim - offset;
  auto sum = V::set(0.0f);
  for (int64_t key = 0; key < a.n_keys; ++key)
    sum = V::multiply_add(V::set(a.scores[key]), V::load_partial(next(values) + offset, rest), sum);
  V::store_partial(out, rest, V::multiply(sum, V::set(inverse)));
}

template <class V, class T>
static void attend(const AttentionQuery& a, int head) {
  constexpr int kWide = 8;  // vectors at once: enough chains to hide an addition's latency
  const int kv_head = head / (a.n_heads / a.n_kv_heads);
  float* out = a.out + int64_t{head} * a.head_dim;
  compute_scores<V, T>(a, a.q + int64_t{head} * a.head_dim, kv_head);
  const float inverse = 1.0f / exponentiate<V>(a.scores, a.n_keys);
  int i = 0;
  for (; i + kWide * V::kLanes <= a.head_dim; i += kWide * V::kLanes)
    weighted_sum<V, kWide, T>(a, kv_head, i, inverse, out + i);
  for (; i + V::kLanes <= a.head_dim; i += V::kLanes)
    weighted_sum<V, 1, T>(a, kv_head, i, inverse, out + i);
  if (i < a.head_dim) weighted_tail<V, T>(a, kv_head, i, inverse, out + i);
}

// kernels.h, attention.
template <class V>
static void attention(const AttentionQuery& a, int first_head, int n_heads_here) {
  for (int head = first_head; head < first_head + n_heads_here; ++head)
    if (a.cache_is_bf16)
      attend<V, typename V::Brain>(a, head);
    else
      attend<V, float>(a, head);
}

}  // namespace lapidary::lanes
