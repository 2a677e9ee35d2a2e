// Rotation and int8 quantization of activations: the reference's bits, eight at a time.
#include "kernels/avx2.h"
#include "kernels/avx2_rotation.h"
#include "kernels/group_sums.h"

namespace lapidary::avx2 {
namespace {

// One scale block of n values, a multiple of 32. Infinity and NaN: see the reference.
float quantize_block(const float* x, int64_t n, int8_t* q) {
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  __m256 largest = _mm256_setzero_ps(), nan = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m256 v = _mm256_loadu_ps(x + i);
    largest = _mm256_max_ps(_mm256_andnot_ps(sign_bit, v), largest);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  }
  const float scale = _mm256_movemask_ps(nan) ? __builtin_nanf("") : fold_max(largest) / 127.0f;
  if (!(scale > 0 && scale < __builtin_inff())) {
    std::memset(q, 0, static_cast<size_t>(n));
    return scale;
  }
  const __m256 divisor = _mm256_set1_ps(scale);
  const __m256 limit = _mm256_set1_ps(127.0f), minus_limit = _mm256_set1_ps(-127.0f);
  for (int64_t i = 0; i < n; i += 2 * kLanes) {
    __m256i integers[2];
    for (int half = 0; half < 2; ++half) {
      __m256 ratio = _mm256_div_ps(_mm256_loadu_ps(x + i + kLanes * half), divisor);
      ratio = _mm256_max_ps(minus_limit, _mm256_min_ps(limit, ratio));
      integers[half] = _mm256_cvtps_epi32(ratio);  // round half even
    }
    // Packing works within 128-bit halves: put the quarters back in order before the last step.
    const __m256i words =
        _mm256_permute4x64_epi64(_mm256_packs_epi32(integers[0], integers[1]), 0b11011000);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), bytes);
  }
  return scale;
}

}  // namespace

void rotate(float* x, int64_t n_tokens, int64_t padded_k) noexcept {
  for (float* block = x; block < x + n_tokens * padded_k; block += kTileK) {
    apply_rotation_signs(block);
    walsh_hadamard_64(block);
  }
}

void quantize(const float* x, int64_t n_tokens, int64_t padded_k, int64_t scale_k, int8_t* q,
              float* scales, int32_t* sums) noexcept {
  for (int64_t t = 0; t < n_tokens; ++t)
    for (int64_t k = 0; k < padded_k; k += scale_k) {
      const int64_t rest = padded_k - k;
      *scales++ = quantize_block(x + t * padded_k + k, rest < scale_k ? rest : scale_k,
                                 q + t * padded_k + k);
    }
  sum_groups(q, n_tokens * padded_k, sums);
}

}  // namespace lapidary::avx2
