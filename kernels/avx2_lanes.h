// Eight lanes for the algorithms of lanes_*.h, under their names for things.
//
// The type is anonymous on purpose: every file that includes this gets its own, so that nothing
// compiled for AVX2 can be shared with baseline code.
#pragma once

#include "kernels/avx2.h"
#include "kernels/avx2_vector.h"

namespace lapidary::avx2 {
namespace {

struct Lanes {
  using Floats = __m256;
  using Half = avx2::Half;
  using Brain = avx2::Brain;
  static constexpr int kLanes = avx2::kLanes;
  static constexpr int64_t kBlockK = 256;  // 16 rows as float32 are half of a 32 KiB L1
  static constexpr int kTokensAtOnce = 3;  // times 4 rows: 12 of the 16 registers are sums
  static constexpr int kOuterRows = 4;     // times 2 vectors: 8 sums
  static constexpr int kRowsAtOnce =
      4;  // query rows of attention: times 2 keys, 8 of the 16 registers are sums

  template <class T>
  static Floats load(const T* p) {
    return load8(p);
  }
  template <class T>
  static Floats load_partial(const T* p, int64_t n) {
    return avx2::load_partial(p, n);
  }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static void store_partial(float* p, int64_t n, Floats v) { avx2::store_partial(p, n, v); }
  static Floats set(float v) { return _mm256_set1_ps(v); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
  static Floats negate(Floats v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static Floats exp(Floats v) { return exp8(v); }
  static Floats tanh(Floats v) { return tanh8(v); }
  // Holds v in a register: else the compiler loads it once more for each use.
  static void keep(Floats& v) { asm("" : "+x"(v)); }
  static float first(Floats v) { return _mm256_cvtss_f32(v); }
  static float fold(Floats v) { return avx2::fold(v); }
  static float fold_max(Floats v) { return avx2::fold_max(v); }
  static __m128 fold4(Floats a, Floats b, Floats c, Floats d) { return avx2::fold4(a, b, c, d); }
  static void expand_tile(const MatrixView& w, const PackedGeometry& g, const PanelParts& parts,
                          int64_t tile, float* out, int64_t stride) {
    avx2::expand_tile(w, g, parts, tile, out, stride);
  }
};

}  // namespace
}  // namespace lapidary::avx2
