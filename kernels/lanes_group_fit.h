// The search for scales, a group per lane: one algorithm for vectors of 8 and 16 lanes, element by
// element that of reference_group_fit.cpp, so that every table finds the same scales.
//
// Groups are transposed, so that value i of all groups is one vector and nothing is folded across
// lanes: the eight partial sums of the reference are eight registers. Sums of integers are exact,
// so theirs are two, for the additions not to wait for each other.
//
// V: what avx*_rounding_lanes.h have, with Doubles of half the lanes that widen(Floats, which half)
// gives and narrow(Doubles, Doubles) takes back, and iq4_levels(y), the levels nearest to y rounded
// to integers.
#pragma once

#include "formats/ggml_blocks.h"
#include "kernels/group_rounding.h"
#include "kernels/lanes_rounding_block.h"

namespace lapidary::lanes {

// Integers from -124 to 127 in 16 bins of 16, none of which has two places where the nearest level
// changes: with q = integer + 124, the level's index is (q + kIq4Steps[q / 16]) / 16.
struct Iq4Table {
  alignas(16) int8_t bytes[16];
};
static constexpr int kIq4Bias = 124;
static constexpr Iq4Table kIq4Steps = [] {
  Iq4Table steps{};
  for (int bin = 0; bin < 16; ++bin) {
    const size_t first = 128 - kIq4Bias + 16 * static_cast<size_t>(bin);
    int step = 16 * (kNearestIq4[first] - bin);
    for (size_t i = first + 1; i < first + 16 && i < kNearestIq4.size(); ++i)
      if (kNearestIq4[i] != kNearestIq4[i - 1]) step += static_cast<int>(first + 16 - i);
    steps.bytes[bin] = static_cast<int8_t>(step);
  }
  return steps;
}();
static constexpr Iq4Table kIq4LevelBytes = [] {
  Iq4Table levels{};
  for (int i = 0; i < 16; ++i) levels.bytes[i] = kIq4Levels[i];
  return levels;
}();

// columns [n][lanes] of the groups from `first` on; lanes beyond the last group are zero.
template <class V>
static int64_t gather_columns(const ValueGroups& groups, int64_t first) {
  const int64_t left = groups.n_groups - first, count = left < V::kLanes ? left : V::kLanes;
  const float* x = groups.x + first * groups.group_stride;
  float* out = groups.scratch;
  if (groups.group_stride == 1) {
    for (int i = 0; i < groups.n; ++i, out += V::kLanes)
      V::store(out, V::load_partial(x + i * groups.value_stride, count));
  } else if (count == V::kLanes && groups.value_stride == 1) {
    transpose_rows<V>(x, groups.group_stride, groups.n, out);
  } else {
    for (int i = 0; i < groups.n; ++i)
      for (int64_t lane = 0; lane < V::kLanes; ++lane, ++out)
        *out = lane < count ? x[lane * groups.group_stride + i * groups.value_stride] : 0.0f;
  }
  return count;
}

template <class V>
static inline typename V::Mask is_finite(typename V::Floats v) {
  return V::not_greater(V::abs(v), V::set(__FLT_MAX__));
}

template <class V>
struct FitSums {
  typename V::Floats xq, q, qq;
};

// Over q = round((x - low_x) * inverse) within [low, high]; low_x is taken off where kShifted.
template <class V, bool kShifted>
static inline FitSums<V> sums_at(const float* x, int n, typename V::Floats low_x,
                                 typename V::Floats inverse, typename V::Floats low,
                                 typename V::Floats high) {
  typename V::Floats xq[8], q_sums[2], qq_sums[2];
#pragma GCC unroll 8
  for (auto& sum : xq) sum = V::set(0.0f);
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) q_sums[j] = qq_sums[j] = V::set(0.0f);
  for (int i = 0; i < n; i += 8, x += 8 * V::kLanes)
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const auto value = V::load(x + j * V::kLanes);
      const auto from_low = kShifted ? V::subtract(value, low_x) : value;
      // The order of operands is that of std::min and std::max, should one be NaN.
      const auto q = V::round(V::min(high, V::max(low, V::multiply(from_low, inverse))));
      if constexpr (kShifted) q_sums[j % 2] = V::add(q_sums[j % 2], q);
      qq_sums[j % 2] = V::multiply_add(q, q, qq_sums[j % 2]);
      xq[j] = V::add(xq[j], V::multiply(value, q));
    }
  auto total = xq[0];
#pragma GCC unroll 8
  for (int j = 1; j < 8; ++j) total = V::add(total, xq[j]);
  return {total, V::add(q_sums[0], q_sums[1]), V::add(qq_sums[0], qq_sums[1])};
}

template <class V>
static typename V::Floats symmetric_scales(const float* x, int n, float low, float high) {
  const auto zero = V::set(0.0f), largest = extreme_of<V>(x, n);
  auto best_scale = zero, best_gain = V::set(-1.0f);
  auto finite = V::all();
  for (int step = -kSymmetricReach; step <= kSymmetricReach; ++step) {
    const auto inverse =
        V::divide(V::set(low + kSymmetricStride * static_cast<float>(step)), largest);
    finite = V::both(finite, is_finite<V>(inverse));
    const FitSums<V> sums = sums_at<V, false>(x, n, zero, inverse, V::set(low), V::set(high));
    const auto scale = V::divide(sums.xq, sums.qq), gain = V::multiply(scale, sums.xq);
    const auto better = V::both(V::greater(sums.qq, zero), V::greater(gain, best_gain));
    best_gain = V::select(better, gain, best_gain);
    best_scale = V::select(better, scale, best_scale);
  }
  return V::select(finite, best_scale, zero);
}

template <class V>
static typename V::Floats iq4_scales(const float* x, int n) {
  const auto zero = V::set(0.0f), largest = extreme_of<V>(x, n);
  auto best_scale = zero, best_gain = V::set(-1.0f);
  auto finite = V::all();
  for (const float end : kIq4Ends) {
    const auto inverse = V::divide(V::set(end), largest);
    finite = V::both(finite, is_finite<V>(inverse));
    auto xq = zero;
    typename V::Floats qq[2] = {zero, zero};
    for (int i = 0; i < n; i += 2)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const auto value = V::load(x + (i + j) * V::kLanes);
        const auto level = V::iq4_levels(V::multiply(value, inverse));
        xq = V::add(xq, V::multiply(value, level));
        qq[j] = V::multiply_add(level, level, qq[j]);
      }
    const auto scale = V::divide(xq, V::add(qq[0], qq[1])), gain = V::multiply(scale, xq);
    const auto better = V::both(finite, V::greater(gain, best_gain));
    best_gain = V::select(better, gain, best_gain);
    best_scale = V::select(better, scale, best_scale);
  }
  return best_scale;
}

// The best of the lines tried so far in half the lanes. Vectors' operators are the compiler's.
template <class V>
struct BestLine {
  using Doubles = typename V::Doubles;
  Doubles scale{}, minimum{}, error{};  // error: less sum x^2

  [[gnu::always_inline]] void try_line(Doubles n, Doubles sx, Doubles sxq, Doubles sq,
                                       Doubles sqq) {
    const Doubles zero{}, one = zero + 1.0, two = zero + 2.0;
    const Doubles determinant = n * sqq - sq * sq;
    const auto has_line = determinant > zero;
    Doubles slope = has_line ? (n * sxq - sq * sx) / determinant : zero;
    Doubles start = has_line ? (sx - slope * sq) / n : one;
    const auto through_zero = start > zero;
    start = through_zero ? zero : start;
    slope = through_zero ? sxq / sqq : slope;  // NaN where all q are 0: never better
    const Doubles loss =
        slope * (slope * sqq - two * sxq + two * start * sq) + start * (start * n - two * sx);
    const auto better = loss < error;
    error = better ? loss : error;
    scale = better ? slope : scale;
    minimum = better ? -start : minimum;
  }
};

template <class V>
static void affine_fits(const float* x, int n, float high, typename V::Floats* scales,
                        typename V::Floats* minima) {
  const auto zero = V::set(0.0f);
  auto lowest = V::load(x), highest = lowest, sx = zero;
  for (int i = 0; i < n; ++i) {
    const auto value = V::load(x + i * V::kLanes);
    lowest = V::min(value, lowest);
    highest = V::max(value, highest);
    sx = V::add(sx, value);
  }
  const auto low = V::min(zero, lowest), range = V::subtract(highest, low);
  auto finite = V::greater(highest, low);
  BestLine<V> best[2];
  for (int step = -kAffineReach; step <= kAffineReach; ++step) {
    const auto inverse = V::divide(V::set(high + kAffineStride * static_cast<float>(step)), range);
    finite = V::both(finite, is_finite<V>(inverse));
    const FitSums<V> sums = sums_at<V, true>(x, n, low, inverse, zero, V::set(high));
    const auto values = V::set(static_cast<float>(n));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      best[half].try_line(V::widen(values, half), V::widen(sx, half), V::widen(sums.xq, half),
                          V::widen(sums.q, half), V::widen(sums.qq, half));
  }
  *scales = V::select(finite, V::narrow(best[0].scale, best[1].scale), zero);
  *minima = V::select(finite, V::narrow(best[0].minimum, best[1].minimum), V::negate(low));
}

// kernels.h, fit_symmetric, fit_affine and fit_iq4.
template <class V>
static void fit_symmetric(const ValueGroups& groups, int low, int high, float* scales) {
  for (int64_t g = 0; g < groups.n_groups; g += V::kLanes) {
    const int64_t count = gather_columns<V>(groups, g);
    V::store_partial(scales + g, count,
                     symmetric_scales<V>(groups.scratch, groups.n, static_cast<float>(low),
                                         static_cast<float>(high)));
  }
}

template <class V>
static void fit_affine(const ValueGroups& groups, int high, float* scales, float* minima) {
  for (int64_t g = 0; g < groups.n_groups; g += V::kLanes) {
    const int64_t count = gather_columns<V>(groups, g);
    typename V::Floats scale, minimum;
    affine_fits<V>(groups.scratch, groups.n, static_cast<float>(high), &scale, &minimum);
    V::store_partial(scales + g, count, scale);
    V::store_partial(minima + g, count, minimum);
  }
}

template <class V>
static void fit_iq4(const ValueGroups& groups, float* scales) {
  for (int64_t g = 0; g < groups.n_groups; g += V::kLanes) {
    const int64_t count = gather_columns<V>(groups, g);
    V::store_partial(scales + g, count, iq4_scales<V>(groups.scratch, groups.n));
  }
}

}  // namespace lapidary::lanes
