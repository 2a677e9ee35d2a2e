// What AVX-512 adds to Lanes for searches that take a row or a group of weights per lane: masks,
// rounding, transposition.
#pragma once

#include "kernels/avx512_lanes.h"

namespace lapidary::avx512 {
namespace {

struct RoundingLanes : Lanes {
  using Mask = __mmask16;

  static Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static Floats abs(Floats v) { return _mm512_abs_ps(v); }
  static Floats round(Floats v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Floats truncate(Floats v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  }
  static Floats select(Mask m, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, m, yes); }
  static Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static Mask not_equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
  static Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static Mask not_less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static Mask not_greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
  static Mask all() { return 0xffff; }
  static bool any(Mask m) { return m != 0; }
  static Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
  static Mask without(Mask a, Mask b) { return static_cast<Mask>(a & ~b); }

  static Floats round_to_f16(Floats v) {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_f16(uint16_t* out, Floats v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_bytes(int8_t* out, Floats v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  // Byte 4 * lane + j is line[j] of the lane.
  static void store_line(uint8_t* out, const Floats line[4]) {
    __m512i bytes = _mm512_cvtps_epi32(line[3]);
#pragma GCC unroll 3
    for (int j = 2; j >= 0; --j)
      bytes = _mm512_or_si512(_mm512_slli_epi32(bytes, 8), _mm512_cvtps_epi32(line[j]));
    _mm512_storeu_si512(out, bytes);
  }

  // out[16 inputs][16 rows] from x[16 rows][16 inputs].
  static void transpose(const float* x, int64_t ldx, float* out) {
    __m512 pairs[16], quads[16];
#pragma GCC unroll 8
    for (int row = 0; row < 16; row += 2) {
      const __m512 a = _mm512_loadu_ps(x + row * ldx), b = _mm512_loadu_ps(x + (row + 1) * ldx);
      pairs[row] = _mm512_unpacklo_ps(a, b);
      pairs[row + 1] = _mm512_unpackhi_ps(a, b);
    }
    // quads[4 * i + j]: inputs j, j + 4, j + 8, j + 12 of rows 4 * i .. 4 * i + 3.
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m512d a = _mm512_castps_pd(pairs[i + half]);
        const __m512d b = _mm512_castps_pd(pairs[i + 2 + half]);
        quads[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        quads[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
      }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512 low01 = _mm512_shuffle_f32x4(quads[j], quads[4 + j], 0b10001000);
      const __m512 high01 = _mm512_shuffle_f32x4(quads[j], quads[4 + j], 0b11011101);
      const __m512 low23 = _mm512_shuffle_f32x4(quads[8 + j], quads[12 + j], 0b10001000);
      const __m512 high23 = _mm512_shuffle_f32x4(quads[8 + j], quads[12 + j], 0b11011101);
      _mm512_storeu_ps(out + 16 * j, _mm512_shuffle_f32x4(low01, low23, 0b10001000));
      _mm512_storeu_ps(out + 16 * (4 + j), _mm512_shuffle_f32x4(high01, high23, 0b10001000));
      _mm512_storeu_ps(out + 16 * (8 + j), _mm512_shuffle_f32x4(low01, low23, 0b11011101));
      _mm512_storeu_ps(out + 16 * (12 + j), _mm512_shuffle_f32x4(high01, high23, 0b11011101));
    }
  }
};

}  // namespace
}  // namespace lapidary::avx512
