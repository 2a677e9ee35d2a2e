// The searches. Vectors of 8 floats are compiler vectors: SSE2 and AVX2 clones of the same source
// give the same bits, because every operation is element-wise and sums have a fixed order of lanes.
#include "quantize/rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "formats/dtype.h"
#include "formats/error.h"

namespace lapidary {
namespace {

#define LAPIDARY_INLINE [[gnu::always_inline]] inline
#if defined(__x86_64__)
#define LAPIDARY_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define LAPIDARY_CLONES
#endif

constexpr int kLanes = 8;
constexpr int kGroupVectors = kGroupK / kLanes;
constexpr int kMostK = 512;  // the largest scale block of any code
constexpr int kMostGroups = kMostK / kGroupK;
constexpr float kLargestF16 = 65504.0f;

using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));

LAPIDARY_INLINE Vector broadcast(float x) { return Vector{x, x, x, x, x, x, x, x}; }
LAPIDARY_INLINE Vector smaller(Vector a, Vector b) { return a < b ? a : b; }
LAPIDARY_INLINE Vector larger(Vector a, Vector b) { return a > b ? a : b; }
LAPIDARY_INLINE float sum(Vector v) {
  return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

// Levels low .. high, one apart.
struct UniformLevels {
  float low, high;
  LAPIDARY_INLINE Vector nearest(Vector y) const {
    // Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest even.
    const Vector magic = broadcast(12582912.0f);
    return (smaller(larger(y, broadcast(low)), broadcast(high)) + magic) - magic;
  }
};

// w3's levels -7 -4 -2 -1 1 2 4 7: thresholds lie half way between neighbours.
struct W3Levels {
  LAPIDARY_INLINE Vector nearest(Vector y) const {
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
  alignas(32) std::array<Vector, kMostK / kLanes> x, weight;
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

float round_to_f16(float value) { return f16_to_float(float_to_f16(value)); }

// Sum of weighted squared errors of vectors [first, first + count) at one step.
template <class Levels>
LAPIDARY_INLINE float error_at(const Block& block, int first, int count, float step,
                               const Levels& levels) {
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
LAPIDARY_INLINE void add_fit(const Block& block, int first, int count, float step, float factor,
                             const Levels& levels, FitSums* sums) {
  if (step == 0.0f) return;
  const Vector inverse = broadcast(1.0f / step), f = broadcast(factor);
  for (int i = first; i < first + count; ++i) {
    const Vector t = levels.nearest(block.x[i] * inverse) * f;
    sums->xt += block.weight[i] * (block.x[i] * t);
    sums->tt += block.weight[i] * (t * t);
  }
}

struct Choice {
  float scale = 0;
  std::array<int, kMostGroups> multipliers{};
  float error = std::numeric_limits<float>::infinity();
};

// --- one scale per block ---

// Steps tried relative to the one whose outermost level is the extreme weight: below 1 clips.
// Gaussian blocks of 32 to 128 have their optimum between 0.75 (3 bits) and 1 (8 bits).
constexpr float kClips[] = {1.0f,  0.98f, 0.95f, 0.92f, 0.89f, 0.86f, 0.83f,
                            0.80f, 0.77f, 0.74f, 0.70f, 0.66f, 1.03f, 1.07f};
constexpr int kRefits = 3;

template <class Levels>
LAPIDARY_INLINE void try_step(const Block& block, float step, const Levels& levels, Choice* best) {
  const float scale = round_to_f16(step);
  if (scale == 0.0f || std::fabs(scale) > kLargestF16) return;
  const float error = error_at(block, 0, block.n_vectors, scale, levels);
  if (error < best->error) {
    best->scale = scale;
    best->error = error;
  }
}

// A block that already lies on a lattice (a Q4_0, Q8_0 or QAT master) must keep its values: the
// extreme weight is some level, so its step is one of few. `outer` is the outermost magnitude.
template <class Levels>
LAPIDARY_INLINE void try_lattices(const Block& block, int outer, const Levels& levels,
                                  Choice* best) {
  for (int level = outer; level >= 1; --level) {
    for (const int sign : {-1, 1}) {
      const float step = round_to_f16(block.extreme / static_cast<float>(sign * level));
      // Most candidates fail here or at the first few weights.
      if (step == 0.0f || step * static_cast<float>(sign * level) != block.extreme) continue;
      bool exact = true;
      for (int i = 0; exact && i < block.n_vectors; ++i)
        exact = error_at(block, i, 1, step, levels) == 0;
      if (!exact) continue;
      best->scale = step;
      best->error = 0;
      return;
    }
  }
}

template <class Levels>
LAPIDARY_INLINE Choice search_one_level(const Block& block, float low, float high, bool lattices,
                                        const Levels& levels) {
  Choice best;
  best.multipliers.fill(1);
  best.error = error_at(block, 0, block.n_vectors, 0.0f, levels);  // all zero
  if (lattices) try_lattices(block, static_cast<int>(-low), levels, &best);
  if (best.error == 0) return best;
  for (const float clip : kClips) {
    try_step(block, clip * (block.extreme / low), levels, &best);
    if (low != -high) try_step(block, clip * (block.extreme / high), levels, &best);
  }
  for (int i = 0; i < kRefits; ++i) {
    FitSums sums;
    add_fit(block, 0, block.n_vectors, best.scale, 1.0f, levels, &sums);
    const float tt = sum(sums.tt), before = best.error;
    if (tt == 0.0f) break;
    try_step(block, sum(sums.xt) / tt, levels, &best);
    if (best.error == before) break;
  }
  return best;
}

// --- a scale per block times a small integer per group ---

// The step a group would take alone, signed so that its extreme weight lies on the longer side.
template <class Levels>
LAPIDARY_INLINE float free_step(const Block& block, int group, float low, const Levels& levels) {
  const int first = group * kGroupVectors;
  float extreme = 0;
  for (int i = first; i < first + kGroupVectors; ++i)
    for (int lane = 0; lane < kLanes; ++lane)
      if (std::fabs(block.x[i][lane]) > std::fabs(extreme)) extreme = block.x[i][lane];
  float best_step = 0, best_error = std::numeric_limits<float>::infinity();
  for (const float clip : kClips) {
    const float step = clip * (extreme / low);
    if (step == 0.0f) continue;
    const float error = error_at(block, first, kGroupVectors, step, levels);
    if (error < best_error) {
      best_error = error;
      best_step = step;
    }
  }
  return best_step;
}

template <class Levels>
LAPIDARY_INLINE void try_multiplier(const Block& block, int group, float scale, int multiplier,
                                    const Levels& levels, int* best, float* best_error) {
  const float error = error_at(block, group * kGroupVectors, kGroupVectors,
                               scale * static_cast<float>(multiplier), levels);
  if (error < *best_error) {
    *best_error = error;
    *best = multiplier;
  }
}

// Block scales tried: the largest free step gets the multiplier largest / ratio.
constexpr float kScaleRatios[] = {1.0f,  0.94f, 1.06f, 1.13f, 1.21f,
                                  1.30f, 1.42f, 1.56f, 1.75f, 2.0f};

template <class Levels>
LAPIDARY_INLINE Choice search_two_level(const Block& block, float low, int max_multiplier,
                                        const Levels& levels) {
  std::array<float, kMostGroups> steps{};
  float largest = 0;
  for (int g = 0; g < block.n_groups; ++g) {
    steps[g] = free_step(block, g, low, levels);
    largest = std::max(largest, std::fabs(steps[g]));
  }
  Choice best;
  best.error = error_at(block, 0, block.n_vectors, 0.0f, levels);
  for (const float ratio : kScaleRatios) {
    Choice trial;
    trial.scale = round_to_f16(largest * ratio / static_cast<float>(max_multiplier));
    if (trial.scale == 0.0f || trial.scale > kLargestF16) continue;
    trial.error = 0;
    for (int g = 0; g < block.n_groups && trial.error < best.error; ++g) {
      const int sign = steps[g] < 0 ? -1 : 1;
      const int below =
          std::min(static_cast<int>(std::fabs(steps[g]) / trial.scale), max_multiplier);
      float error = std::numeric_limits<float>::infinity();
      try_multiplier(block, g, trial.scale, sign * below, levels, &trial.multipliers[g], &error);
      if (below < max_multiplier)
        try_multiplier(block, g, trial.scale, sign * (below + 1), levels, &trial.multipliers[g],
                       &error);
      trial.error += error;
    }
    if (trial.error < best.error) best = trial;
  }
  for (int i = 0; i < kRefits; ++i) {
    FitSums sums;
    for (int g = 0; g < block.n_groups; ++g) {
      const float m = static_cast<float>(best.multipliers[g]);
      add_fit(block, g * kGroupVectors, kGroupVectors, best.scale * m, m, levels, &sums);
    }
    const float tt = sum(sums.tt);
    if (tt == 0.0f) break;
    Choice trial;
    trial.scale = round_to_f16(sum(sums.xt) / tt);
    if (trial.scale <= 0.0f || trial.scale > kLargestF16) break;
    trial.error = 0;
    for (int g = 0; g < block.n_groups && trial.error < best.error; ++g) {
      const int m = std::abs(best.multipliers[g]);
      float error = std::numeric_limits<float>::infinity();
      for (int near = std::max(m - 1, 0); near <= std::min(m + 1, max_multiplier); ++near)
        for (const int signed_near : {near, -near})
          try_multiplier(block, g, trial.scale, signed_near, levels, &trial.multipliers[g], &error);
      trial.error += error;
    }
    if (!(trial.error < best.error)) break;
    best = trial;
  }
  return best;
}

// --- one entry per kind of levels, cloned per instruction set ---

LAPIDARY_CLONES Choice uniform_one_level(const Block& block, float low, float high, bool lattices) {
  return search_one_level(block, low, high, lattices, UniformLevels{low, high});
}
LAPIDARY_CLONES Choice uniform_two_level(const Block& block, float low, float high, int most) {
  return search_two_level(block, low, most, UniformLevels{low, high});
}
LAPIDARY_CLONES Choice w3_one_level(const Block& block) {
  return search_one_level(block, -7.0f, 7.0f, false, W3Levels{});
}
LAPIDARY_CLONES Choice w3_two_level(const Block& block, int most) {
  return search_two_level(block, -7.0f, most, W3Levels{});
}

// Level (as a float) to index: level + offset, or w3's table.
int index_of(Code code, float level, int lowest) {
  if (code != Code::kW3) return static_cast<int>(level) - lowest;
  const auto table = levels(Code::kW3);
  return static_cast<int>(std::find(table.begin(), table.end(), static_cast<int8_t>(level)) -
                          table.begin());
}

template <class Levels>
void emit(Code code, const Block& block, const Choice& choice, const Levels& nearest,
          RoundedBlock* out) {
  const int lowest = levels(code).front();
  for (int i = 0; i < block.n_vectors; ++i) {
    const int multiplier = choice.multipliers[i / kGroupVectors];
    const float step = choice.scale * static_cast<float>(multiplier);
    const Vector level =
        nearest.nearest(step == 0.0f ? broadcast(0.0f) : block.x[i] * broadcast(1.0f / step));
    for (int lane = 0; lane < kLanes && i * kLanes + lane < block.n; ++lane) {
      const int at = i * kLanes + lane;
      out->indices[at] = static_cast<uint8_t>(index_of(code, level[lane], lowest));
      out->values[at] = choice.scale * (static_cast<float>(multiplier) * level[lane]);
    }
  }
}

}  // namespace

float largest_weight(Code code) {
  const int multiplier = std::max(1, traits(code).max_multiplier);
  return kLargestF16 * static_cast<float>(multiplier) * static_cast<float>(levels(code).back());
}

void round_block(Code code, std::span<const float> x, RoundedBlock* out) {
  const CodeTraits& t = traits(code);
  LAPIDARY_CHECK(!t.is_float && x.size() <= static_cast<size_t>(t.scale_k));
  const float low = levels(code).front(), high = levels(code).back();
  const Block block(x);
  const bool two_level = !out->multipliers.empty();
  Choice choice;
  if (code == Code::kW3) {
    choice = two_level ? w3_two_level(block, t.max_multiplier) : w3_one_level(block);
    emit(code, block, choice, W3Levels{}, out);
  } else {
    const bool lattices = t.scale_k == kGroupK;  // w4x, w8x
    choice = two_level ? uniform_two_level(block, low, high, t.max_multiplier)
                       : uniform_one_level(block, low, high, lattices);
    emit(code, block, choice, UniformLevels{low, high}, out);
  }
  out->scale = float_to_f16(choice.scale);
  if (two_level)
    for (int g = 0; g < block.n_groups; ++g)
      out->multipliers[g] = static_cast<int8_t>(choice.multipliers[g]);
}

}  // namespace lapidary
