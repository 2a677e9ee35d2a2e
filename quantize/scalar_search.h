// One scale block of 64 rows under error feedback: scales tried, columns rounded one by one.
//
// The inner loops of scalar_rounder.cpp: 64 rows side by side, so that the compiler's vectors do
// the work.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "quantize/block_rounder.h"

namespace lapidary::scalar {

inline constexpr int kRows = kStripRows;
inline constexpr int kPanels = kRows / kPanelRows;
using RowFloats = float[kRows];

// The integers of one scale block of 64 rows, and what they leave.
struct Choice {
  alignas(64) float scales[kRows];
  alignas(64) float losses[kRows];  // sum of D_j (target - value)^2
  alignas(64) int8_t multipliers[kMostGroups][kRows];
  alignas(64) int8_t levels[kMostBlockK][kRows];
};

// Which index a level of a scalar code has.
class LevelIndices {
 public:
  explicit LevelIndices(Code code) {
    const std::span<const int8_t> table = levels(code);
    for (size_t i = 0; i < table.size(); ++i) of_[table[i] + 128] = static_cast<uint8_t>(i);
  }
  uint8_t operator[](int level) const { return of_[level + 128]; }

 private:
  uint8_t of_[256] = {};
};

struct Levels {
  float low, high;
  bool is_w3;
  // The arithmetic of kernels/reference_rounding_block.h.
  float nearest(float y) const {
    if (!is_w3) {
      const float clamped = std::min(std::max(y, low), high);
      return (clamped + 12582912.0f) - 12582912.0f;
    }
    const float a = std::fabs(y);
    const float level = a > 5.5f ? 7.0f : a > 3.0f ? 4.0f : a > 1.5f ? 2.0f : 1.0f;
    return y < 0 ? -level : level;
  }
};

class BlockSearch {
 public:
  BlockSearch(const PackedGeometry& g, const StripBlock& block, int n_k)
      : block_(block),
        n_k_(n_k),
        two_level_(traits(g.code).multiplier_bits > 0),
        most_(traits(g.code).max_multiplier),
        code_(g.code) {
    const RoundingRule rule = rounding_rule(code_, two_level_);
    levels_ = {rule.low, rule.high, rule.is_w3};
  }

  // Scales and multipliers of plain rounding on the targets.
  void start(Choice* choice) const {
    const float limit = largest_weight(code_);
    alignas(64) float x[kPanelRows * kMostBlockK];
    alignas(64) uint8_t indices[kPanelRows * kMostBlockK];
    RoundedRows rounded;
    rounded.indices = indices;
    for (int panel = 0; panel < kPanels; ++panel) {
      for (int r = 0; r < kPanelRows; ++r)
        for (int k = 0; k < n_k_; ++k)
          x[r * n_k_ + k] = std::clamp(targets(k)[panel * kPanelRows + r], -limit, limit);
      kernels().round_rows(code_, two_level_, x, n_k_, n_k_, &rounded);
      for (int r = 0; r < kPanelRows; ++r) {
        const int row = panel * kPanelRows + r;
        choice->scales[row] = scale_to_float(ScaleType::kF16, rounded.scales[r]);
        for (int g = 0; two_level_ && g * kGroupK < n_k_; ++g)
          choice->multipliers[g][row] = rounded.multipliers[g][r];
      }
    }
  }

  // Rounds the block at the scales of `choice`, starting from its multipliers. values [n_k][64].
  void round(Choice* choice, float* values) {
    std::copy_n(targets(0), n_k_ * kRows, work_);
    std::fill_n(choice->losses, kRows, 0.0f);
    for (int tile = (n_k_ - 1) / kFeedbackTile * kFeedbackTile; tile >= 0; tile -= kFeedbackTile) {
      const int end = std::min(tile + kFeedbackTile, n_k_);
      for (int group = (end - 1) / kGroupK * kGroupK; group >= tile; group -= kGroupK)
        round_group(choice, group, std::min(group + kGroupK, end), tile, values);
      for (int j = tile - kFeedbackTile; j >= 0; j -= kFeedbackTile)
        kernels().add_outer_products(feedback(tile, j), errors_ + tile * kRows, end - tile,
                                     work_ + j * kRows, kRows);
    }
  }

  // The scales that fit the integers of `from` best, in the metric of the outputs.
  void refit(const Choice& from, const float* values, Choice* to) {
    // With r = target - value as left, A = r + (value with its own feedback), so that the outputs'
    // error at another scale s' is A - s'/s (A - r).
    alignas(64) RowFloats along = {}, norm = {};
    std::copy_n(values, n_k_ * kRows, work_);
    if (traits(code_).scale_k < kFeedbackTile)
      add_feedback(values);
    else
      for (int tile = 0; tile < n_k_; tile += kFeedbackTile)
        kernels().add_outer_products(feedback(tile, tile), values + tile * kRows, n_k_ - tile,
                                     work_ + tile * kRows, kRows);
    for (int k = 0; k < n_k_; ++k) {
      const float d = block_.importance[k];
      const float* v = work_ + k * kRows;
      const float* r = residuals_ + k * kRows;
      for (int row = 0; row < kRows; ++row) {
        along[row] += d * (v[row] * (r[row] + v[row]));
        norm[row] += d * (v[row] * v[row]);
      }
    }
    *to = from;
    for (int row = 0; row < kRows; ++row) {
      if (!(norm[row] > 0)) continue;
      const float scale = from.scales[row] * (along[row] / norm[row]);
      const float stored = scale_to_float(ScaleType::kF16, float_to_scale(ScaleType::kF16, scale));
      if (std::isfinite(stored) && stored != 0 && (stored > 0) == (from.scales[row] > 0))
        to->scales[row] = stored;
    }
  }

 private:
  // To the block's own columns; of blocks that may begin inside a tile.
  void add_feedback(const float* values) {
    for (int j = 0; j < n_k_; ++j)
      for (int k = j + 1; k < n_k_; ++k) {
        const float l = *feedback(k, j);
        for (int row = 0; row < kRows; ++row) work_[j * kRows + row] += l * values[k * kRows + row];
      }
  }

  const float* targets(int k) const { return block_.targets + k * kRows; }
  const float* weights(int k) const { return block_.weights + k * kRows; }
  const float* feedback(int k, int j) const {
    return block_.feedback.at(block_.k_in_batch + k, block_.k_in_batch + j);
  }

  // Columns [first, end) under one multiplier; their errors reach the rest of the tile.
  void round_group(Choice* choice, int first, int end, int tile, float* values) {
    const int group = first / kGroupK;
    alignas(64) RowFloats step, best_loss;
    if (!two_level_) {
      std::copy_n(choice->scales, kRows, step);
      try_group(first, end, step, best_loss);
      keep_columns(choice, first, end, step, values);
    } else {
      alignas(64) RowFloats loss;
      int8_t start[kRows];
      std::copy_n(choice->multipliers[group], kRows, start);
      const int signs = levels_.is_w3 ? 1 : 2;
      bool is_first = true;
      for (int sign = 0; sign < signs; ++sign)
        for (const int away : {0, -1, 1}) {
          alignas(64) int8_t trial[kRows];
          for (int row = 0; row < kRows; ++row) {
            const int magnitude = std::clamp(std::abs(start[row]) + away, 0, most_);
            trial[row] =
                static_cast<int8_t>((start[row] < 0) != (sign == 1) ? -magnitude : magnitude);
            step[row] = choice->scales[row] * static_cast<float>(trial[row]);
          }
          try_group(first, end, step, loss);
          for (int row = 0; row < kRows; ++row) {
            if (!is_first && !(loss[row] < best_loss[row])) continue;
            best_loss[row] = loss[row];
            choice->multipliers[group][row] = trial[row];
          }
          is_first = false;
        }
      for (int row = 0; row < kRows; ++row)
        step[row] = choice->scales[row] * static_cast<float>(choice->multipliers[group][row]);
      try_group(first, end, step, best_loss);
      keep_columns(choice, first, end, step, values);
    }
    for (int row = 0; row < kRows; ++row) choice->losses[row] += best_loss[row];
    // The rest of the tile, in front of the group.
    for (int j = tile; j < first; ++j) {
      float* t = work_ + j * kRows;
      for (int k = first; k < end; ++k) {
        const float l = *feedback(k, j);
        const float* e = errors_ + k * kRows;
        for (int row = 0; row < kRows; ++row) t[row] += l * e[row];
      }
    }
  }

  // One way of rounding a group: levels, values, errors and residuals of its columns, and the loss.
  void try_group(int first, int end, const float* step, float* loss) {
    alignas(64) RowFloats inverse;
    for (int row = 0; row < kRows; ++row) {
      inverse[row] = step[row] == 0 ? 0.0f : 1.0f / step[row];
      loss[row] = 0;
    }
    for (int k = end - 1; k >= first; --k) {
      alignas(64) RowFloats t;
      std::copy_n(work_ + k * kRows, kRows, t);
      for (int behind = k + 1; behind < end; ++behind) {
        const float l = *feedback(behind, k);
        const float* e = errors_ + behind * kRows;
        for (int row = 0; row < kRows; ++row) t[row] += l * e[row];
      }
      const float d = block_.importance[k];
      const float* w = weights(k);
      float* level = group_levels_ + (k - first) * kRows;
      float* e = errors_ + k * kRows;
      float* r = residuals_ + k * kRows;
      for (int row = 0; row < kRows; ++row) {
        level[row] = levels_.nearest(t[row] * inverse[row]);
        const float value = step[row] * level[row];
        e[row] = w[row] - value;
        r[row] = t[row] - value;
        loss[row] += d * (r[row] * r[row]);
      }
    }
  }

  void keep_columns(Choice* choice, int first, int end, const float* step, float* values) const {
    for (int k = first; k < end; ++k)
      for (int row = 0; row < kRows; ++row) {
        const float level = group_levels_[(k - first) * kRows + row];
        choice->levels[k][row] = static_cast<int8_t>(level);
        values[k * kRows + row] = step[row] * level;  // exact: 11 + 4 + 4 bits
      }
  }

  const StripBlock& block_;
  int n_k_;
  bool two_level_;
  int most_;
  Code code_;
  Levels levels_;
  alignas(64) float work_[kMostBlockK * kRows];  // targets with the feedback inside the block
  alignas(64) float errors_[kMostBlockK * kRows];
  alignas(64) float residuals_[kMostBlockK * kRows];
  alignas(64) float group_levels_[kGroupK * kRows];
};

}  // namespace lapidary::scalar
