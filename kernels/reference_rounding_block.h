// One scale block of one row as the rule of rounding sees it: levels, errors at a step, sums of a
// least-squares fit.
//
// Vectors of 8 floats stand for the order of sums: eight partial sums over ascending k, folded in
// one tree. Never included by a file compiled for a wider instruction set.
#pragma once

#include <array>
#include <cmath>
#include <span>

#include "formats/dtype.h"
#include "kernels/rounding.h"

namespace lapidary::reference {

inline constexpr int kLanes = 8;
inline constexpr int kGroupVectors = kGroupK / kLanes;

using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));

inline Vector broadcast(float x) { return Vector{x, x, x, x, x, x, x, x}; }
inline Vector smaller(Vector a, Vector b) { return a < b ? a : b; }
inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }
inline float sum(Vector v) {
  return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

// Levels low .. high, one apart.
struct UniformLevels {
  float low, high;
  Vector nearest(Vector y) const {
    // Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest even.
    const Vector magic = broadcast(12582912.0f);
    return (smaller(larger(y, broadcast(low)), broadcast(high)) + magic) - magic;
  }
};

// w3's levels -7 -4 -2 -1 1 2 4 7: thresholds lie half way between neighbours.
struct W3Levels {
  Vector nearest(Vector y) const {
    const Vector zero = broadcast(0.0f), one = broadcast(1.0f);
    const Vector a = y < zero ? -y : y;
    Vector level = a > broadcast(1.5f) ? broadcast(2.0f) : one;
    level = a > broadcast(3.0f) ? broadcast(4.0f) : level;
    level = a > broadcast(5.5f) ? broadcast(7.0f) : level;
    return y < zero ? -level : level;
  }
};

// One block, padded to whole vectors. Padding has weight 0 and counts nowhere.
struct Block {
  alignas(32) std::array<Vector, kMostBlockK / kLanes> x, weight;
  int n = 0, n_vectors = 0, n_groups = 0;
  float extreme = 0;  // the value of largest magnitude

  explicit Block(std::span<const float> values) {
    n = static_cast<int>(values.size());
    n_groups = (n + kGroupK - 1) / kGroupK;
    n_vectors = n_groups * kGroupVectors;
    float* const to = reinterpret_cast<float*>(x.data());
    float* const w = reinterpret_cast<float*>(weight.data());
    for (int i = 0; i < n_vectors * kLanes; ++i) {
      to[i] = i < n ? values[i] : 0.0f;
      w[i] = i < n ? 1.0f : 0.0f;
      if (std::fabs(to[i]) > std::fabs(extreme)) extreme = to[i];
    }
  }
};

inline float round_to_f16(float value) { return f16_to_float(float_to_f16(value)); }

// Sum of weighted squared errors of vectors [first, first + count) at one step.
template <class Levels>
float error_at(const Block& block, int first, int count, float step, const Levels& levels) {
  Vector total = broadcast(0.0f);
  if (step == 0.0f) {
    for (int i = first; i < first + count; ++i)
      total += block.weight[i] * (block.x[i] * block.x[i]);
    return sum(total);
  }
  const Vector s = broadcast(step), inverse = broadcast(1.0f / step);
  for (int i = first; i < first + count; ++i) {
    const Vector r = block.x[i] - levels.nearest(block.x[i] * inverse) * s;
    total += block.weight[i] * (r * r);
  }
  return sum(total);
}

// Sums for a least-squares step: x.t and t.t with t = factor * level.
struct FitSums {
  Vector xt = broadcast(0.0f), tt = broadcast(0.0f);
};
template <class Levels>
void add_fit(const Block& block, int first, int count, float step, float factor,
             const Levels& levels, FitSums* sums) {
  if (step == 0.0f) return;
  const Vector inverse = broadcast(1.0f / step), f = broadcast(factor);
  for (int i = first; i < first + count; ++i) {
    const Vector t = levels.nearest(block.x[i] * inverse) * f;
    sums->xt += block.weight[i] * (block.x[i] * t);
    sums->tt += block.weight[i] * (t * t);
  }
}

}  // namespace lapidary::reference
