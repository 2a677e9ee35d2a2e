// Norms, rotary embedding and activations, eight at a time. Tails go through zero-filled vectors,
// so that an element's value never depends on its place in a vector.
#include "kernels/avx2.h"
#include "kernels/avx2_vector.h"

namespace lapidary::avx2 {
namespace {

__m256 sigmoid(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(one, _mm256_add_ps(one, exp8(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f)))));
}

__m256 silu(__m256 x) { return _mm256_mul_ps(x, sigmoid(x)); }

// 0.5 x (1 + tanh z) = x sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3): nothing overflows to
// NaN.
__m256 gelu(__m256 x) {
  const __m256 cubic =
      _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1.0f));
  const __m256 twice_z =
      _mm256_mul_ps(_mm256_mul_ps(x, cubic), _mm256_set1_ps(1.5957691216f));  // 2 sqrt(2 / pi)
  return _mm256_mul_ps(x, sigmoid(twice_z));
}

template <class Function>
void map(const float* a, const float* b, int64_t n, float* out, Function f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) _mm256_storeu_ps(out + i, f(load8(a + i), load8(b + i)));
  if (i < n)
    store_partial(out + i, n - i, f(load_partial(a + i, n - i), load_partial(b + i, n - i)));
}

}  // namespace

void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
              int64_t width, float* out) noexcept {
  const __m256 shift = _mm256_set1_ps(offset);
  for (int64_t t = 0; t < n_tokens; ++t, x += width, out += width) {
    __m256 sum = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) sum = _mm256_fmadd_ps(load8(x + i), load8(x + i), sum);
    if (i < width) {
      const __m256 tail = load_partial(x + i, width - i);
      sum = _mm256_fmadd_ps(tail, tail, sum);
    }
    const float mean = fold(sum) / static_cast<float>(width);
    const __m256 inverse = _mm256_set1_ps(1.0f / __builtin_sqrtf(mean + eps));
    map(x, w ? w : x, width, out, [&](__m256 value, __m256 weight) {
      const __m256 normed = _mm256_mul_ps(value, inverse);
      return w ? _mm256_mul_ps(normed, _mm256_add_ps(weight, shift)) : normed;
    });
  }
}

// Without fused operations: the reference's bits.
void rope(float* x, const float* cos, const float* sin, int n_heads, int head_dim) noexcept {
  const int half = head_dim / 2;
  for (int head = 0; head < n_heads; ++head, x += head_dim) {
    int i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const __m256 low = load8(x + i), high = load8(x + half + i);
      const __m256 c = load8(cos + i), s = load8(sin + i);
      _mm256_storeu_ps(x + i, _mm256_sub_ps(_mm256_mul_ps(low, c), _mm256_mul_ps(high, s)));
      _mm256_storeu_ps(x + half + i, _mm256_add_ps(_mm256_mul_ps(high, c), _mm256_mul_ps(low, s)));
    }
    for (; i < half; ++i) {
      const float low = x[i], high = x[half + i];
      x[i] = low * cos[i] - high * sin[i];
      x[half + i] = high * cos[i] + low * sin[i];
    }
  }
}

void gelu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  map(gate, up, n, out, [](__m256 g, __m256 u) { return _mm256_mul_ps(gelu(g), u); });
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  map(gate, up, n, out, [](__m256 g, __m256 u) { return _mm256_mul_ps(silu(g), u); });
}

void softcap(float* x, int64_t n, float cap) noexcept {
  const __m256 scale = _mm256_set1_ps(cap);
  map(x, x, n, x,
      [&](__m256 v, __m256) { return _mm256_mul_ps(scale, tanh8(_mm256_div_ps(v, scale))); });
}

void float_to_bf16(const float* x, int64_t n, uint16_t* out) noexcept {
  const __m256i bias = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1);
  int64_t i = 0;
  for (; i < n; i += kLanes) {
    const int64_t here = n - i < kLanes ? n - i : kLanes;
    const __m256 value = here == kLanes ? load8(x + i) : load_partial(x + i, here);
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i high = _mm256_srli_epi32(bits, 16);
    // Nearest, ties to even; a NaN is only made quiet.
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(bias, _mm256_and_si256(high, one))), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i result = _mm256_blendv_epi8(rounded, quiet, is_nan);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
    if (here == kLanes)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), words);
    else
      std::memcpy(out + i, &words, static_cast<size_t>(here) * sizeof(uint16_t));
  }
}

}  // namespace lapidary::avx2
