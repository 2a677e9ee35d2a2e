// Norms, rotary embedding, activations and rounding to bf16, eight at a time.
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_elementwise.h"

namespace lapidary::avx2 {

void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
              int64_t width, float* out) noexcept {
  lanes::rms_norm<Lanes>(x, w, offset, eps, n_tokens, width, out);
}
void gelu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  lanes::gelu_mul<Lanes>(gate, up, n, out);
}
void silu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  lanes::silu_mul<Lanes>(gate, up, n, out);
}
void add(float* x, const float* y, float factor, int64_t n) noexcept {
  lanes::add<Lanes>(x, y, factor, n);
}
void softcap(float* x, int64_t n, float cap) noexcept { lanes::softcap<Lanes>(x, n, cap); }

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
