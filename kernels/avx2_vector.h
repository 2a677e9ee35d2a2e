// Small vector functions that several AVX2 files share: partial loads, folds, exp and tanh.
//
// Everything is static: an inline function compiled with AVX2 flags must never be the copy that the
// linker gives to baseline code. For the same reason nothing here uses templates of the library.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace lapidary::avx2 {

inline constexpr int kLanes = 8;

// 16-bit floats in memory, told apart by type.
struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

static inline __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
static inline __m256 load8(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline __m256 load8(const Brain* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// The first n < 8 values, zero in the other lanes; reads nothing beyond them.
template <class T>
static inline __m256 load_partial(const T* p, int64_t n) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return load8(buffer);
}
static inline void store_partial(float* p, int64_t n, __m256 v) {
  alignas(32) float buffer[kLanes];
  _mm256_store_ps(buffer, v);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(float));
}

// Lanes below n are all ones.
static inline __m256 first_lanes(int64_t n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index));
}

// Sums of the lanes of four vectors, each as ((0+1)+(2+3)) + ((4+5)+(6+7)).
static inline __m128 fold4(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 quads = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1));
}
static inline float fold(__m256 a) { return _mm_cvtss_f32(fold4(a, a, a, a)); }

static inline float fold_max(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// e^x = 2^n * (1 + p) with n = round(x / ln 2) and p = e^r - 1, |r| <= ln 2 / 2.
struct ExpParts {
  __m256 power;  // 2^n
  __m256 p;
};

// REQUIRES: -60 <= x <= 89; from 88.4 on n is 128 and the power infinity.
static inline ExpParts exp_parts(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),  // 1 / ln 2
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two floats: n * high is exact inside the fused operation.
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e43p-1f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-0x1.05c61p-29f), r);
  // Taylor's series: the first term left out, r^8 / 8!, is 5e-9 at the ends.
  __m256 series = _mm256_set1_ps(1.0f / 5040);
  series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 720));
  series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 120));
  series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 24));
  series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 6));
  series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(0.5f));
  const __m256 p = _mm256_fmadd_ps(_mm256_mul_ps(series, r), r, r);
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return {_mm256_castsi256_ps(exponent), p};
}

// Below -60: 8.8e-27, which is nothing beside 1 and still far from denormal floats, which Intel's
// processors multiply many times slower: a softmax weight times a value is none. From 88.4 on: infinity. NaN stays NaN (it is max's and min's second operand).
static inline __m256 exp8(__m256 x) {
  x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-60.0f), x));
  const ExpParts e = exp_parts(x);
  return _mm256_mul_ps(e.power, _mm256_add_ps(e.p, _mm256_set1_ps(1.0f)));
}

// tanh |x| = m / (m + 2) with m = e^(2|x|) - 1, which keeps its precision near zero.
static inline __m256 tanh8(__m256 x) {
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  const __m256 magnitude = _mm256_andnot_ps(sign_bit, x);
  // tanh is 1 in float32 from 9.02 on.
  const __m256 twice = _mm256_min_ps(_mm256_set1_ps(20.0f), _mm256_add_ps(magnitude, magnitude));
  const ExpParts e = exp_parts(twice);
  const __m256 m = _mm256_fmadd_ps(e.power, e.p, _mm256_sub_ps(e.power, _mm256_set1_ps(1.0f)));
  const __m256 t = _mm256_div_ps(m, _mm256_add_ps(m, _mm256_set1_ps(2.0f)));
  return _mm256_or_ps(t, _mm256_and_ps(sign_bit, x));
}

}  // namespace lapidary::avx2
