// Softmax attention of one query token: three passes over the visible keys of each head.
//
// A score is one dot product in 8 lanes; the softmax runs over the scores in order of position; an
// output element is one chain over ascending keys. None of it sees the ring's capacity or wrap.
#include "kernels/avx2.h"
#include "kernels/avx2_vector.h"

namespace lapidary::avx2 {
namespace {

// The vectors of one kv head in the ring, visited in ascending position.
template <class T>
class RingWalk {
 public:
  RingWalk(const AttentionQuery& a, const void* cache, int kv_head)
      : stride_(int64_t{a.n_kv_heads} * a.head_dim),
        start_(static_cast<const T*>(cache) + int64_t{kv_head} * a.head_dim),
        capacity_(a.capacity),
        slot_(a.first_key % a.capacity) {}
  const T* next() {
    const T* here = start_ + slot_ * stride_;
    if (++slot_ == capacity_) slot_ = 0;
    return here;
  }

 private:
  int64_t stride_;
  const T* start_;
  int64_t capacity_, slot_;
};

// Four keys at a time to hide the latency of the sums; each score is the same as alone.
template <class T>
void compute_scores(const AttentionQuery& a, const float* q, int kv_head) {
  RingWalk<T> keys(a, a.keys, kv_head);
  const int whole = a.head_dim / kLanes * kLanes, rest = a.head_dim - whole;
  for (int64_t first = 0; first < a.n_keys; first += 4) {
    const int64_t n_here = a.n_keys - first < 4 ? a.n_keys - first : 4;
    const T* key[4];
    for (int j = 0; j < 4; ++j) key[j] = j < n_here ? keys.next() : key[0];
    __m256 sum[4] = {};
    for (int i = 0; i < whole; i += kLanes) {
      const __m256 query = load8(q + i);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sum[j] = _mm256_fmadd_ps(query, load8(key[j] + i), sum[j]);
    }
    if (rest > 0)
      for (int j = 0; j < 4; ++j)
        sum[j] = _mm256_fmadd_ps(load_partial(q + whole, rest), load_partial(key[j] + whole, rest),
                                 sum[j]);
    const __m128 scores = fold4(sum[0], sum[1], sum[2], sum[3]);
    if (n_here == 4)
      _mm_storeu_ps(a.scores + first, scores);
    else
      std::memcpy(a.scores + first, &scores, static_cast<size_t>(n_here) * sizeof(float));
  }
}

// Replaces scores by exp(score - largest); returns their sum.
float exponentiate(float* scores, int64_t n) {
  __m256 largest = _mm256_set1_ps(-__builtin_inff());
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) largest = _mm256_max_ps(largest, load8(scores + i));
  float shift = fold_max(largest);
  for (int64_t i = whole; i < n; ++i) shift = scores[i] > shift ? scores[i] : shift;
  const __m256 shifts = _mm256_set1_ps(shift);
  __m256 sum = _mm256_setzero_ps();
  for (int64_t i = 0; i < whole; i += kLanes) {
    const __m256 e = exp8(_mm256_sub_ps(load8(scores + i), shifts));
    _mm256_storeu_ps(scores + i, e);
    sum = _mm256_add_ps(sum, e);
  }
  if (whole < n) {
    const __m256 e = exp8(_mm256_sub_ps(load_partial(scores + whole, n - whole), shifts));
    store_partial(scores + whole, n - whole, e);
    sum = _mm256_add_ps(sum, _mm256_and_ps(e, first_lanes(n - whole)));
  }
  return fold(sum);
}

// out[0 .. 8 Vectors) += over all keys.
template <class T, int Vectors>
void weighted_sum(const AttentionQuery& a, int kv_head, int offset, float inverse, float* out) {
  RingWalk<T> values(a, a.values, kv_head);
  __m256 sum[Vectors] = {};
  for (int64_t key = 0; key < a.n_keys; ++key) {
    const T* value = values.next() + offset;
    const __m256 weight = _mm256_broadcast_ss(a.scores + key);
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i)
      sum[i] = _mm256_fmadd_ps(weight, load8(value + kLanes * i), sum[i]);
  }
  for (int i = 0; i < Vectors; ++i)
    _mm256_storeu_ps(out + kLanes * i, _mm256_mul_ps(sum[i], _mm256_set1_ps(inverse)));
}

template <class T>
void weighted_tail(const AttentionQuery& a, int kv_head, int offset, float inverse, float* out) {
  RingWalk<T> values(a, a.values, kv_head);
  const int rest = a.head_dim - offset;
  __m256 sum = _mm256_setzero_ps();
  for (int64_t key = 0; key < a.n_keys; ++key)
    sum = _mm256_fmadd_ps(_mm256_broadcast_ss(a.scores + key),
                          load_partial(values.next() + offset, rest), sum);
  store_partial(out, rest, _mm256_mul_ps(sum, _mm256_set1_ps(inverse)));
}

template <class T>
void attend(const AttentionQuery& a, int head) {
  const int kv_head = head / (a.n_heads / a.n_kv_heads);
  float* out = a.out + int64_t{head} * a.head_dim;
  compute_scores<T>(a, a.q + int64_t{head} * a.head_dim, kv_head);
  const float inverse = 1.0f / exponentiate(a.scores, a.n_keys);
  int i = 0;
  for (; i + 64 <= a.head_dim; i += 64) weighted_sum<T, 8>(a, kv_head, i, inverse, out + i);
  for (; i + 8 <= a.head_dim; i += 8) weighted_sum<T, 1>(a, kv_head, i, inverse, out + i);
  if (i < a.head_dim) weighted_tail<T>(a, kv_head, i, inverse, out + i);
}

}  // namespace

void attention(const AttentionQuery& a, int first_head, int n_heads_here) noexcept {
  for (int head = first_head; head < first_head + n_heads_here; ++head)
    if (a.cache_is_bf16)
      attend<Brain>(a, head);
    else
      attend<float>(a, head);
}

}  // namespace lapidary::avx2
