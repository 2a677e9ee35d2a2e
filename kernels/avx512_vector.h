// Small vector functions that several AVX-512 files share: loads, folds, exp and tanh.
//
// Everything is static: an inline function compiled with AVX-512 flags must never be the copy that
// the linker gives to baseline code. For the same reason nothing here uses templates of the
// library.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace lapidary::avx512 {

inline constexpr int kLanes = 16;

// 16-bit floats in memory, told apart by type.
struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

// Lanes below n, of 16; none for n <= 0.
static inline __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

static inline __m512 halves_to_floats(__m256i bits) { return _mm512_cvtph_ps(bits); }
static inline __m512 brains_to_floats(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

static inline __m512 load16(const float* p) { return _mm512_loadu_ps(p); }
static inline __m512 load16(const Half* p) {
  return halves_to_floats(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline __m512 load16(const Brain* p) {
  return brains_to_floats(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// The lanes of the mask, zero in the others; reads nothing beyond them.
static inline __m512 load16(const float* p, __mmask16 lanes) {
  return _mm512_maskz_loadu_ps(lanes, p);
}
static inline __m512 load16(const Half* p, __mmask16 lanes) {
  return halves_to_floats(_mm256_maskz_loadu_epi16(lanes, p));
}
static inline __m512 load16(const Brain* p, __mmask16 lanes) {
  return brains_to_floats(_mm256_maskz_loadu_epi16(lanes, p));
}

// Sums of the lanes of four vectors, in one fixed tree: neighbours, pairs of neighbours, quarters.
static inline __m128 fold4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 abcd = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  const __m256 halves =
      _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

// e^x = 2^n * (1 + p) with n = round(x / ln 2) and p = e^r - 1, |r| <= ln 2 / 2.
struct ExpParts {
  __m512 n, p;
};

static inline ExpParts exp_parts(__m512 x) {
  const __m512 n =
      _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),  // 1 / ln 2
                           _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two floats: n * high is exact inside the fused operation.
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e43p-1f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-0x1.05c61p-29f), r);
  // Taylor's series: the first term left out, r^8 / 8!, is 5e-9 at the ends.
  __m512 series = _mm512_set1_ps(1.0f / 5040);
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 720));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 120));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 24));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 6));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.5f));
  return {n, _mm512_fmadd_ps(_mm512_mul_ps(series, r), r, r)};
}

// Below -60: 8.8e-27, which is nothing beside 1 and still far from denormal floats, which Intel's
// processors multiply many times slower: a softmax weight times a value is none. From 88.73 on: infinity. NaN stays NaN (it is max's and min's second operand).
static inline __m512 exp16(__m512 x) {
  x = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-60.0f), x));
  const ExpParts e = exp_parts(x);
  return _mm512_scalef_ps(_mm512_add_ps(e.p, _mm512_set1_ps(1.0f)), e.n);
}

// tanh |x| = m / (m + 2) with m = e^(2|x|) - 1, which keeps its precision near zero.
static inline __m512 tanh16(__m512 x) {
  const __m512 magnitude = _mm512_abs_ps(x);
  // tanh is 1 in float32 from 9.02 on.
  const __m512 twice = _mm512_min_ps(_mm512_set1_ps(20.0f), _mm512_add_ps(magnitude, magnitude));
  const ExpParts e = exp_parts(twice);
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 power = _mm512_scalef_ps(one, e.n);
  const __m512 m = _mm512_fmadd_ps(power, e.p, _mm512_sub_ps(power, one));
  const __m512 t = _mm512_div_ps(m, _mm512_add_ps(m, _mm512_set1_ps(2.0f)));
  return _mm512_or_ps(t, _mm512_and_ps(_mm512_set1_ps(-0.0f), x));
}

}  // namespace lapidary::avx512
