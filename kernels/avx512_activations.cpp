// Rotation and int8 quantization of activations: the reference's bits, sixteen at a time.
#include "kernels/avx512.h"
#include "kernels/avx512_vector.h"
#include "kernels/group_sums.h"

namespace lapidary::avx512 {
namespace {

constexpr int kVectors = kTileK / kLanes;

// A butterfly inside the vectors: lanes whose partner is below them become partner - x, the others
// partner + x, as x + partner rounds the same.
template <class Partner>
void butterfly(__m512 v[kVectors], __mmask16 lower, Partner partner) {
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    const __m512 other = partner(v[i]);
    v[i] = _mm512_mask_sub_ps(_mm512_add_ps(other, v[i]), lower, other, v[i]);
  }
}

// Signs, then the reference's butterflies at distance 1, 2, 4, ..., 32, then times 1/8.
void rotate_block(float* x) {
  __m512 v[kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    const auto negated = static_cast<__mmask16>(kRotationSigns >> (kLanes * i) & 0xffff);
    const __m512i bits = _mm512_loadu_si512(x + kLanes * i);
    v[i] = _mm512_castsi512_ps(
        _mm512_mask_xor_epi32(bits, negated, bits, _mm512_set1_epi32(INT32_MIN)));
  }
  butterfly(v, 0xaaaa, [](__m512 a) { return _mm512_permute_ps(a, 0b10110001); });
  butterfly(v, 0xcccc, [](__m512 a) { return _mm512_permute_ps(a, 0b01001110); });
  butterfly(v, 0xf0f0, [](__m512 a) { return _mm512_shuffle_f32x4(a, a, 0b10110001); });
  butterfly(v, 0xff00, [](__m512 a) { return _mm512_shuffle_f32x4(a, a, 0b01001110); });
#pragma GCC unroll 2
  for (int distance = 1; distance < kVectors; distance *= 2)
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i)
      if ((i & distance) == 0) {
        const __m512 a = v[i], b = v[i + distance];
        v[i] = _mm512_add_ps(a, b);
        v[i + distance] = _mm512_sub_ps(a, b);
      }
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i)
    _mm512_storeu_ps(x + kLanes * i, _mm512_mul_ps(v[i], _mm512_set1_ps(0.125f)));
}

// One scale block of n values, a multiple of 32. Infinity and NaN: see the reference.
float quantize_block(const float* x, int64_t n, int8_t* q) {
  __m512 largest = _mm512_setzero_ps();
  __mmask16 nan = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512 v = _mm512_loadu_ps(x + i);
    largest = _mm512_max_ps(_mm512_abs_ps(v), largest);
    nan = _kor_mask16(nan, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
  }
  const float scale = nan ? __builtin_nanf("") : _mm512_reduce_max_ps(largest) / 127.0f;
  if (!(scale > 0 && scale < __builtin_inff())) {
    std::memset(q, 0, static_cast<size_t>(n));
    return scale;
  }
  const __m512 divisor = _mm512_set1_ps(scale);
  const __m512 limit = _mm512_set1_ps(127.0f), minus_limit = _mm512_set1_ps(-127.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    __m512 ratio = _mm512_div_ps(_mm512_loadu_ps(x + i), divisor);
    ratio = _mm512_max_ps(minus_limit, _mm512_min_ps(limit, ratio));
    const __m512i integers = _mm512_cvtps_epi32(ratio);  // round half even
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), _mm512_cvtepi32_epi8(integers));
  }
  return scale;
}

}  // namespace

void rotate(float* x, int64_t n_tokens, int64_t padded_k) noexcept {
  for (float* block = x; block < x + n_tokens * padded_k; block += kTileK) rotate_block(block);
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

}  // namespace lapidary::avx512
