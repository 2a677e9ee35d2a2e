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

}  // namespace lapidary::avx512
