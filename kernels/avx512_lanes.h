// Sixteen lanes for the algorithms of lanes_*.h, under their names for things.
//
// The type is anonymous on purpose: every file that includes this gets its own, so that nothing
// compiled for AVX-512 can be shared with baseline code.
#pragma once

#include "kernels/avx2.h"
#include "kernels/avx512.h"
#include "kernels/avx512_vector.h"

namespace lapidary::avx512 {
namespace {

struct Lanes {
  using Floats = __m512;
  using Half = avx512::Half;
  using Brain = avx512::Brain;
  static constexpr int kLanes = avx512::kLanes;
  // Sixteen rows as float32 are 33 KiB: within the 48 KiB L1 of most such CPUs, and where L1 has
  // 32, L2 feeds the rest at the pace of 4 rows x 6 tokens.
  static constexpr int64_t kBlockK = 512;
  static constexpr int kTokensAtOnce = 6;  // times 4 rows: 24 of the 32 registers are sums
  static constexpr int kOuterRows = 8;     // times 2 vectors: 16 sums
  static constexpr int kRowsAtOnce =
      8;  // query rows of attention: times 2 keys, 16 of 32 registers are sums

  template <class T>
  static Floats load(const T* p) {
    return load16(p);
  }
  template <class T>
  static Floats load_partial(const T* p, int64_t n) {
    return load16(p, first_lanes(n));
  }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static void store_partial(float* p, int64_t n, Floats v) {
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
  }
  static Floats set(float v) { return _mm512_set1_ps(v); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static Floats negate(Floats v) { return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f)); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats exp(Floats v) { return exp16(v); }
  static Floats tanh(Floats v) { return tanh16(v); }
  // Holds v in a register: else the compiler loads it once more for each use.
  static void keep(Floats& v) { asm("" : "+v"(v)); }
  static float first(Floats v) { return _mm512_cvtss_f32(v); }
  static float fold(Floats v) { return _mm_cvtss_f32(avx512::fold4(v, v, v, v)); }
  static float fold_max(Floats v) { return _mm512_reduce_max_ps(v); }
  static __m128 fold4(Floats a, Floats b, Floats c, Floats d) { return avx512::fold4(a, b, c, d); }
  static void expand_tile(const MatrixView& w, const PackedGeometry& g, const PanelParts& parts,
                          int64_t tile, float* out, int64_t stride) {
    avx2::expand_tile(w, g, parts, tile, out, stride);
  }
};

}  // namespace
}  // namespace lapidary::avx512
