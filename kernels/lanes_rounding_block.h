// One scale block of several rows, one row per lane: levels, errors at a step, sums of a
// least-squares fit, as reference_rounding_block.h has them for one row.
//
// Blocks are transposed, so that input k of all rows is one vector: every row has its own step,
// nothing is folded across lanes, and the eight partial sums of the reference are eight registers.
// V: as in lanes_matmul_float.h, with what avx*_rounding_lanes.h add.
#pragma once

#include "kernels/rounding.h"

namespace lapidary::lanes {

template <class V>
struct RowBlock {
  alignas(64) float x[kMostBlockK * V::kLanes];  // [n][lanes]
  int n, n_groups;
};

// out[n][lanes] from x[lanes][n], rows ldx apart. Writes whole tiles of kLanes x kLanes.
template <class V>
static void transpose_rows(const float* x, int64_t ldx, int n, float* out) {
  int k = 0;
  for (; k + V::kLanes <= n; k += V::kLanes) V::transpose(x + k, ldx, out + k * V::kLanes);
  if (k == n) return;
  float rest[V::kLanes * V::kLanes] = {};
  for (int row = 0; row < V::kLanes; ++row)
    for (int j = k; j < n; ++j) rest[row * V::kLanes + j - k] = x[row * ldx + j];
  V::transpose(rest, V::kLanes, out + k * V::kLanes);
}

template <class V>
static inline typename V::Floats inverse_or_zero(typename V::Floats step) {
  const auto zero = V::set(0.0f);
  return V::select(V::equal(step, zero), zero, V::divide(V::set(1.0f), step));
}

template <class V>
struct UniformLevels {
  typename V::Floats low, high;
  typename V::Floats nearest(typename V::Floats y) const {
    return V::round(V::min(V::max(y, low), high));
  }
  typename V::Floats index(typename V::Floats y) const { return V::subtract(nearest(y), low); }
};

// Three thresholds between the magnitudes 1, 2, 4 and 7.
template <class V>
struct W3Levels {
  typename V::Floats nearest(typename V::Floats y) const {
    return of_magnitude(y, 1.0f, 2.0f, 4.0f, 7.0f);
  }
  typename V::Floats index(typename V::Floats y) const {
    return V::add(of_magnitude(y, 0.5f, 1.5f, 2.5f, 3.5f), V::set(3.5f));
  }

 private:
  static typename V::Floats of_magnitude(typename V::Floats y, float a, float b, float c, float d) {
    const auto size = V::abs(y);
    auto level = V::select(V::greater(size, V::set(1.5f)), V::set(b), V::set(a));
    level = V::select(V::greater(size, V::set(3.0f)), V::set(c), level);
    level = V::select(V::greater(size, V::set(5.5f)), V::set(d), level);
    return V::select(V::less(y, V::set(0.0f)), V::negate(level), level);
  }
};

// f(vector of input k, k % 8) for k below n.
template <class V, class Function>
[[gnu::always_inline]] static inline void for_inputs(const float* x, int n, Function f) {
  int k = 0;
  for (; k + 8 <= n; k += 8, x += 8 * V::kLanes)
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) f(V::load(x + j * V::kLanes), j);
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j)
    if (k + j < n) f(V::load(x + j * V::kLanes), j);
}

template <class V>
struct Sums {
  typename V::Floats part[8];
  Sums() {
#pragma GCC unroll 8
    for (auto& p : part) p = V::set(0.0f);
  }
  typename V::Floats fold() const {
    return V::add(V::add(V::add(part[0], part[4]), V::add(part[1], part[5])),
                  V::add(V::add(part[2], part[6]), V::add(part[3], part[7])));
  }
};

// Sums of squared errors of n inputs at each lane's step; step 0: of the inputs themselves.
template <class V, class Levels>
static typename V::Floats error_at(const float* x, int n, typename V::Floats step,
                                   const Levels& levels) {
  const auto inverse = inverse_or_zero<V>(step);
  Sums<V> sums;
  for_inputs<V>(x, n, [&](auto value, int j) {
    const auto r =
        V::subtract(value, V::multiply(levels.nearest(V::multiply(value, inverse)), step));
    sums.part[j] = V::add(sums.part[j], V::multiply(r, r));
  });
  return sums.fold();
}

template <class V, class Levels>
static void add_fit(const float* x, int n, typename V::Floats step, typename V::Floats factor,
                    const Levels& levels, Sums<V>* xt, Sums<V>* tt) {
  const auto inverse = inverse_or_zero<V>(step);
  Sums<V> x_sums = *xt, t_sums = *tt;
  for_inputs<V>(x, n, [&](auto value, int j) {
    const auto t = V::multiply(levels.nearest(V::multiply(value, inverse)), factor);
    x_sums.part[j] = V::add(x_sums.part[j], V::multiply(value, t));
    t_sums.part[j] = V::add(t_sums.part[j], V::multiply(t, t));
  });
  *xt = x_sums;
  *tt = t_sums;
}

// The first value of largest magnitude.
template <class V>
static typename V::Floats extreme_of(const float* x, int n) {
  auto extreme = V::set(0.0f), size = V::set(0.0f);
  for (int k = 0; k < n; ++k, x += V::kLanes) {
    const auto value = V::load(x), magnitude = V::abs(value);
    extreme = V::select(V::greater(magnitude, size), value, extreme);
    size = V::max(magnitude, size);
  }
  return extreme;
}

template <class V>
static inline typename V::Mask is_f16_scale(typename V::Floats scale) {
  return V::both(V::greater(V::abs(scale), V::set(0.0f)),
                 V::not_greater(V::abs(scale), V::set(kLargestF16)));
}

}  // namespace lapidary::lanes
