// The rule of rounding, for one row; kernels/rounding.h says it in words.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "formats/dtype.h"
#include "formats/error.h"
#include "kernels/reference.h"
#include "kernels/reference_rounding_block.h"

namespace lapidary {
namespace {

using reference::add_fit, reference::Block, reference::broadcast, reference::error_at;
using reference::FitSums, reference::kGroupVectors, reference::kLanes, reference::round_to_f16;
using reference::sum, reference::UniformLevels, reference::Vector, reference::W3Levels;

struct Choice {
  float scale = 0;
  std::array<int, kMostGroups> multipliers{};
  float error = std::numeric_limits<float>::infinity();
};

// --- one scale per block ---

template <class Levels>
void try_step(const Block& block, float step, const Levels& levels, Choice* best) {
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
void try_lattices(const Block& block, int outer, const Levels& levels, Choice* best) {
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
Choice search_one_level(const Block& block, float low, float high, bool lattices,
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
float free_step(const Block& block, int group, float low, const Levels& levels) {
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
void try_multiplier(const Block& block, int group, float scale, int multiplier,
                    const Levels& levels, int* best, float* best_error) {
  const float error = error_at(block, group * kGroupVectors, kGroupVectors,
                               scale * static_cast<float>(multiplier), levels);
  if (error < *best_error) {
    *best_error = error;
    *best = multiplier;
  }
}

template <class Levels>
Choice search_two_level(const Block& block, float low, int max_multiplier, const Levels& levels) {
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
  if (traits(code).is_trellis) return kLargestF16 * 127;
  const int multiplier = std::max(1, traits(code).max_multiplier);
  return kLargestF16 * static_cast<float>(multiplier) * static_cast<float>(levels(code).back());
}

RoundingRule rounding_rule(Code code, bool has_multipliers) {
  const CodeTraits& t = traits(code);
  return {static_cast<float>(levels(code).front()),
          static_cast<float>(levels(code).back()),
          t.max_multiplier,
          has_multipliers,
          code == Code::kW3,
          t.scale_k == kGroupK};
}

void round_block(Code code, std::span<const float> x, RoundedBlock* out) {
  const CodeTraits& t = traits(code);
  LAPIDARY_CHECK(!t.is_float && x.size() <= static_cast<size_t>(t.scale_k));
  const Block block(x);
  const bool two_level = !out->multipliers.empty();
  const RoundingRule rule = rounding_rule(code, two_level);
  const auto search = [&](const auto& nearest) {
    const Choice choice =
        two_level ? search_two_level(block, rule.low, rule.most, nearest)
                  : search_one_level(block, rule.low, rule.high, rule.lattices, nearest);
    emit(code, block, choice, nearest, out);
    return choice;
  };
  const Choice choice =
      rule.is_w3 ? search(W3Levels{}) : search(UniformLevels{rule.low, rule.high});
  out->scale = float_to_f16(choice.scale);
  if (two_level)
    for (int g = 0; g < block.n_groups; ++g)
      out->multipliers[g] = static_cast<int8_t>(choice.multipliers[g]);
  out->error = choice.error;
  out->energy = error_at(block, 0, block.n_vectors, 0.0f, UniformLevels{});
}

void reference::round_rows(Code code, bool has_multipliers, const float* x, int64_t ldx, int n,
                           RoundedRows* out) noexcept {
  uint8_t indices[kMostBlockK];
  int8_t multipliers[kMostGroups];
  float values[kMostBlockK];
  const int n_groups = has_multipliers ? (n + kGroupK - 1) / kGroupK : 0;
  for (int row = 0; row < kPanelRows; ++row) {
    RoundedBlock block;
    block.indices = std::span(indices).first(static_cast<size_t>(n));
    block.multipliers = std::span(multipliers).first(static_cast<size_t>(n_groups));
    block.values = std::span(values).first(static_cast<size_t>(n));
    round_block(code, {x + row * ldx, static_cast<size_t>(n)}, &block);
    for (int k = 0; k < n; ++k) out->indices[k / 4 * kPanelRows * 4 + row * 4 + k % 4] = indices[k];
    for (int g = 0; g < n_groups; ++g) out->multipliers[g][row] = multipliers[g];
    out->scales[row] = block.scale;
    out->errors[row] = block.error;
    out->energies[row] = block.energy;
  }
}

}  // namespace lapidary
