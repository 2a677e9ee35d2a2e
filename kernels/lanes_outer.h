// Sums of outer products, 64 x 64 at a time: one algorithm for vectors of 8 and 16 lanes. The
// arithmetic of calibration (X'X, its factorisation, error feedback) is all of this one shape.
//
// Both operands are read in the order they lie in, 64 values per k. A piece of 64 k of both (32
// KiB) stays in L1 while blocks of V::kOuterRows x 2 vectors of sums pass over it.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::lanes {

template <class V>
static inline void add_outer_block(const float* a, const float* b, int64_t n_k, float* c,
                                   int64_t ldc) {
  typename V::Floats sum[V::kOuterRows][2];
#pragma GCC unroll 8
  for (int i = 0; i < V::kOuterRows; ++i) sum[i][0] = sum[i][1] = V::set(0.0f);
  for (int64_t k = 0; k < n_k; ++k) {
    const auto b0 = V::load(b + k * kOuterTile), b1 = V::load(b + k * kOuterTile + V::kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < V::kOuterRows; ++i) {
      const auto v = V::set(a[k * kOuterTile + i]);
      sum[i][0] = V::multiply_add(v, b0, sum[i][0]);
      sum[i][1] = V::multiply_add(v, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < V::kOuterRows; ++i) {
    float* out = c + i * ldc;
    V::store(out, V::add(V::load(out), sum[i][0]));
    V::store(out + V::kLanes, V::add(V::load(out + V::kLanes), sum[i][1]));
  }
}

template <class V>
static inline void add_outer_products(const float* a, const float* b, int64_t n_k, float* c,
                                      int64_t ldc) {
  for (int64_t k = 0; k < n_k; k += kOuterPiece) {
    const int64_t n_here = n_k - k < kOuterPiece ? n_k - k : kOuterPiece;
    for (int j = 0; j < kOuterTile; j += 2 * V::kLanes)
      for (int i = 0; i < kOuterTile; i += V::kOuterRows)
        add_outer_block<V>(a + k * kOuterTile + i, b + k * kOuterTile + j, n_here, c + i * ldc + j,
                           ldc);
  }
}

}  // namespace lapidary::lanes
