// Merge-aware training: the forward pass uses the very integers that a merge will store.
//
// Rounding W + s B A again after training moves every weight by up to half a step of its code, many
// times the adapter's own change, and in another direction than the rounding the adapter was
// trained against. So the last steps train against the rounded sum itself: y = Q(W + s B A) x, with
// the gradient of A and B taken as if Q were not there (straight-through estimation, Bengio et al.
// 2013). What Q does is handed in, so that it is the merge's own code.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/packed_matrix.h"
#include "formats/peft.h"

namespace at {
class Tensor;
}

namespace lapidary {

class FrozenWeights;
class LoraSet;
struct LoraPart;

// Fills one panel, rows [first_row, first_row + 16), of the matrix that merging `module` stores, or
// of a stack's `expert`. Called from several threads.
using PanelRounding = std::function<void(
    const LoraModule& module, int64_t expert, const PackedGeometry& geometry, bool rotated,
    int64_t first_row, std::span<uint8_t> codes, std::span<uint8_t> meta)>;

// The merged matrices of an adapter, as of the last refresh().
class MergedMatrices {
 public:
  // Rounds anew and points each part's `merged` here. What is too narrow to be packed is not: a
  // merge keeps it in floats, as base and update are.
  void refresh(LoraSet& lora, const PanelRounding& rounding, FrozenWeights& weights);

 private:
  struct Matrix {
    std::vector<uint8_t> bytes;  // with room to align
    MatrixView view;
  };
  std::map<const MatrixView*, Matrix> matrices_;  // by the base's matrix
};

// y = merged x; the gradient of A and B is that of s B A x. REQUIRES: lora.merged.
at::Tensor merged_linear(FrozenWeights& weights, const LoraPart& lora, const at::Tensor& x);

}  // namespace lapidary
