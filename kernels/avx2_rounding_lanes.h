// What AVX2 adds to Lanes for searches that take a row or a group of weights per lane: masks,
// rounding, transposition.
#pragma once

#include "kernels/avx2_lanes.h"

namespace lapidary::avx2 {
namespace {

struct RoundingLanes : Lanes {
  using Mask = __m256;

  static Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  static Floats abs(Floats v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
  static Floats round(Floats v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Floats truncate(Floats v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  }
  static Floats select(Mask m, Floats yes, Floats no) { return _mm256_blendv_ps(no, yes, m); }
  static Mask equal(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
  static Mask not_equal(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
  static Mask less(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  static Mask greater(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static Mask not_less(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static Mask not_greater(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
  static Mask all() { return _mm256_castsi256_ps(_mm256_set1_epi32(-1)); }
  static bool any(Mask m) { return _mm256_movemask_ps(m) != 0; }
  static Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
  static Mask without(Mask a, Mask b) { return _mm256_andnot_ps(b, a); }

  static Floats round_to_f16(Floats v) {
    return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_f16(uint16_t* out, Floats v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_bytes(int8_t* out, Floats v) {
    const __m256i integers = _mm256_cvtps_epi32(v);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packs_epi16(words, words));
  }
  // Byte 4 * lane + j is line[j] of the lane.
  static void store_line(uint8_t* out, const Floats line[4]) {
    __m256i bytes = _mm256_cvtps_epi32(line[3]);
#pragma GCC unroll 3
    for (int j = 2; j >= 0; --j)
      bytes = _mm256_or_si256(_mm256_slli_epi32(bytes, 8), _mm256_cvtps_epi32(line[j]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
  }

  // out[8 inputs][8 rows] from x[8 rows][8 inputs].
  static void transpose(const float* x, int64_t ldx, float* out) {
    __m256 pairs[8], quads[8];
#pragma GCC unroll 4
    for (int row = 0; row < 8; row += 2) {
      const __m256 a = _mm256_loadu_ps(x + row * ldx), b = _mm256_loadu_ps(x + (row + 1) * ldx);
      pairs[row] = _mm256_unpacklo_ps(a, b);
      pairs[row + 1] = _mm256_unpackhi_ps(a, b);
    }
    // quads[4 * i + j]: inputs j and j + 4 of rows 4 * i .. 4 * i + 3.
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256d a = _mm256_castps_pd(pairs[i + half]);
        const __m256d b = _mm256_castps_pd(pairs[i + 2 + half]);
        quads[i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        quads[i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
      }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      _mm256_storeu_ps(out + 8 * j, _mm256_permute2f128_ps(quads[j], quads[4 + j], 0x20));
      _mm256_storeu_ps(out + 8 * (4 + j), _mm256_permute2f128_ps(quads[j], quads[4 + j], 0x31));
    }
  }
};

}  // namespace
}  // namespace lapidary::avx2
