// Rotary embedding angles: the cosines and sines of one position, for every kind a model's layers
// use.
//
// A model has one or two kinds (sliding and global layers differ in base and head width). One row
// holds, kind after kind, cos [head_dim / 2] then sin [head_dim / 2]. Angles are computed in double
// and rounded once, so they are exact at any context length. Formulas:
// transformers' modeling_rope_utils.py (proportional: pairs past the rotated fraction keep angle 0;
// llama3: a blend of frequencies).
#pragma once

#include <cstdint>
#include <vector>

#include "formats/model_config.h"

namespace lapidary {

// Frequencies per pair, [head_dim / 2].
std::vector<double> rope_frequencies(const RopeConfig& rope, int head_dim);

class RopeTable {
 public:
  explicit RopeTable(const ModelConfig& config);
  int64_t width() const { return width_; }        // floats of one row
  void fill(int64_t position, float* row) const;  // row [width]
  const float* cosines(const float* row, int layer) const { return row + offset_[layer]; }
  const float* sines(const float* row, int layer) const {
    return row + offset_[layer] + half_[layer];
  }

 private:
  struct Kind {
    RopeConfig rope;
    int head_dim;
    int64_t offset;
    std::vector<double> frequencies;
  };
  std::vector<Kind> kinds_;
  std::vector<int64_t> offset_, half_;  // per layer
  int64_t width_ = 0;
};

}  // namespace lapidary
