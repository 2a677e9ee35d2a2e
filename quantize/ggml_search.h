// One GGUF block of 64 rows under error feedback: groups fitted, neighbours of their scales tried.
//
// The inner loops of ggml_rounder.cpp, and included by it alone: 64 rows side by side, so that the
// compiler's vectors do the work.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/dtype.h"
#include "kernels/group_rounding.h"
#include "kernels/kernels.h"
#include "quantize/block_rounder.h"

namespace lapidary::ggml {

inline constexpr int kRows = kStripRows;
inline constexpr int kMostColumns = 256, kMostGroups = 16;
using RowFloats = float[kRows];

// What a type's values are: step * level - offset, levels low..high or those of IQ4.
struct Lattice {
  int block = 256, group = 32;
  float low = 0, high = 0;
  bool is_iq4 = false;
  bool has_minimum = false;           // offset = minimum * integer of the group; else 0
  int scale_low = 0, scale_high = 0;  // integers of group scales; both 0: an fp16 per group
};

// The integers of one block of 64 rows.
struct Choice {
  alignas(64) float scale[kRows], minimum[kRows];  // values of the block's fp16s
  alignas(64) int scales[kMostGroups][kRows];      // of groups
  alignas(64) int minima[kMostGroups][kRows];
  alignas(64) float steps[kMostGroups][kRows];  // scale times integer, or the group's own fp16
  alignas(64) float levels[kMostColumns][kRows];
};

inline float as_half(float value) {
  return f16_to_float(float_to_f16(std::clamp(value, -65504.0f, 65504.0f)));
}
inline float inverse_of(float scale) {
  const float inverse = 1.0f / scale;
  return scale == 0 || !std::isfinite(inverse) ? 0.0f : inverse;
}

class BlockSearch {
 public:
  BlockSearch(const Lattice& lattice, const StripBlock& block) : lattice_(lattice), block_(block) {
    std::copy_n(block.targets, block.n_k * kRows, work_);
  }

  void run(Choice* choice) {
    if (lattice_.scale_high != 0) choose_block_scales(choice);
    for (int group = block_.n_k / lattice_.group - 1; group >= 0; --group) {
      round_group(group, choice);
      feed_back(group * lattice_.group, (group + 1) * lattice_.group);
    }
  }

 private:
  // All rows' n values from x on, a column after the other.
  ValueGroups rows(const float* x, int n) { return {x, 1, kRows, n, kRows, scratch_.data()}; }

  void fit(int group, float* scales, float* minima) {
    const ValueGroups groups = rows(work_ + group * lattice_.group * kRows, lattice_.group);
    const int low = static_cast<int>(lattice_.low), high = static_cast<int>(lattice_.high);
    if (lattice_.has_minimum) return kernels().fit_affine(groups, high, scales, minima);
    std::fill_n(minima, kRows, 0.0f);
    if (lattice_.is_iq4) return kernels().fit_iq4(groups, scales);
    kernels().fit_symmetric(groups, low, high, scales);
  }

  void choose_block_scales(Choice* choice) {
    const int n_groups = lattice_.block / lattice_.group;
    alignas(64) float scales[kMostGroups * kRows];
    alignas(64) RowFloats minima, block_scales = {}, largest_minima = {};
    for (int g = 0; g < n_groups; ++g) {
      fit(g, scales + g * kRows, minima);
      for (int row = 0; row < kRows; ++row) {
        block_scales[row] = std::max(block_scales[row], scales[g * kRows + row]);
        largest_minima[row] = std::max(largest_minima[row], minima[row]);
      }
    }
    const float highest = static_cast<float>(lattice_.scale_high);
    if (lattice_.has_minimum)
      for (float& scale : block_scales) scale /= highest;
    else
      kernels().fit_symmetric(rows(scales, n_groups), lattice_.scale_low, lattice_.scale_high,
                              block_scales);
    for (int row = 0; row < kRows; ++row) {
      choice->scale[row] = as_half(block_scales[row]);
      choice->minimum[row] = as_half(largest_minima[row] / highest);
    }
  }

  void round_group(int group, Choice* choice) {
    const int first = group * lattice_.group;
    alignas(64) int scales[kRows] = {}, minima[kRows] = {};  // the fit's
    alignas(64) RowFloats fitted, fitted_minima, step, offset, loss, best;
    fit(group, fitted, fitted_minima);
    for (int row = 0; row < kRows && lattice_.scale_high != 0; ++row) {
      scales[row] = round_clamped(fitted[row] * inverse_of(choice->scale[row]), lattice_.scale_low,
                                  lattice_.scale_high);
      minima[row] = round_clamped(fitted_minima[row] * inverse_of(choice->minimum[row]), 0,
                                  lattice_.scale_high);
    }
    std::fill_n(best, kRows, INFINITY);
    const int reach = lattice_.has_minimum ? 1 : 0;
    for (int away = -2; away <= 2; ++away)
      for (int lower = -reach; lower <= reach; ++lower) {
        for (int row = 0; row < kRows; ++row) {
          // Candidates of groups with an fp16 of their own lie as close as those of six bits.
          const int scale = std::clamp(scales[row] + away, lattice_.scale_low, lattice_.scale_high);
          const int minimum = std::clamp(minima[row] + lower, 0, lattice_.scale_high);
          step[row] = lattice_.scale_high == 0
                          ? as_half(fitted[row] * (1.0f + 0.02f * static_cast<float>(away)))
                          : choice->scale[row] * static_cast<float>(scale);
          offset[row] = choice->minimum[row] * static_cast<float>(minimum);
        }
        try_group(first, step, offset, loss);
        for (int row = 0; row < kRows; ++row) {
          if (!(loss[row] < best[row])) continue;
          best[row] = loss[row];
          choice->scales[group][row] =
              std::clamp(scales[row] + away, lattice_.scale_low, lattice_.scale_high);
          choice->minima[group][row] = std::clamp(minima[row] + lower, 0, lattice_.scale_high);
          choice->steps[group][row] = step[row];
        }
      }
    for (int row = 0; row < kRows; ++row)
      offset[row] = choice->minimum[row] * static_cast<float>(choice->minima[group][row]);
    try_group(first, choice->steps[group], offset, loss);
    for (int k = first; k < first + lattice_.group; ++k)
      for (int row = 0; row < kRows; ++row) {
        const float level = levels_[(k - first) * kRows + row];
        choice->levels[k][row] = level;
        block_.values[k * kRows + row] = choice->steps[group][row] * value_of(level) - offset[row];
      }
  }

  float value_of(float level) const {
    return lattice_.is_iq4 ? static_cast<float>(kIq4Levels[static_cast<int>(level)]) : level;
  }

  // One way of rounding a group, column by column from its last, with feedback inside.
  void try_group(int first, const float* step, const float* offset, float* loss) {
    alignas(64) RowFloats inverse;
    for (int row = 0; row < kRows; ++row) {
      inverse[row] = inverse_of(step[row]);
      loss[row] = 0;
    }
    for (int i = lattice_.group - 1; i >= 0; --i) {
      const int k = first + i;
      alignas(64) RowFloats t;
      std::copy_n(work_ + k * kRows, kRows, t);
      for (int behind = i + 1; behind < lattice_.group; ++behind) {
        const float l = feedback(first + behind, k);
        const float* e = errors_ + behind * kRows;
        for (int row = 0; row < kRows; ++row) t[row] += l * e[row];
      }
      const float d = block_.importance[k];
      const float* w = block_.weights + k * kRows;
      float* level = levels_ + i * kRows;
      float* e = errors_ + i * kRows;
      if (lattice_.is_iq4) {
        for (int row = 0; row < kRows; ++row) level[row] = nearest_iq4(t[row] * inverse[row]);
      } else {
        for (int row = 0; row < kRows; ++row)
          level[row] =
              nearest(clamped((t[row] + offset[row]) * inverse[row], lattice_.low, lattice_.high));
      }
      for (int row = 0; row < kRows; ++row) {
        const float value = step[row] * value_of(level[row]) - offset[row];
        const float r = t[row] - value;
        e[row] = w[row] - value;
        loss[row] += d * (r * r);
      }
    }
  }

  // The group's errors reach the block's columns in front of it.
  void feed_back(int first, int end) {
    for (int j = 0; j < first; ++j) {
      float* t = work_ + j * kRows;
      for (int k = first; k < end; ++k) {
        const float l = feedback(k, j);
        const float* e = errors_ + (k - first) * kRows;
        for (int row = 0; row < kRows; ++row) t[row] += l * e[row];
      }
    }
  }
  float feedback(int k, int j) const {
    return *block_.feedback.at(block_.k_in_batch + k, block_.k_in_batch + j);
  }

  const Lattice& lattice_;
  const StripBlock& block_;
  std::array<float, fit_scratch_floats(32)> scratch_;
  alignas(64) float work_[kMostColumns * kRows];  // targets with the feedback inside the block
  alignas(64) float errors_[32 * kRows], levels_[32 * kRows];
};

}  // namespace lapidary::ggml
