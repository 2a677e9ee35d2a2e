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
struct LoraWeights;

// Fills one panel, rows [first_row, first_row + 16), of the matrix that merging `module` stores.
// Called from several threads.
using PanelRounding =
    std::function<void(const LoraModule& module, const PackedGeometry& geometry, bool rotated,
                       int64_t first_row, std::span<uint8_t> codes, std::span<uint8_t> meta)>;

// The merged matrices of an adapter, as of the last refresh().
class MergedMatrices {
 public:
  // Rounds anew and points each module's `merged` here. REQUIRES: every adapted matrix is packed.
  void refresh(LoraSet& lora, const PanelRounding& rounding, FrozenWeights& weights);
  // The packed bytes of one module: codes, then meta. For tests.
  std::span<const uint8_t> stored(const std::string& module) const {
    return matrices_.at(module).bytes;
  }

 private:
  struct Matrix {
    std::vector<uint8_t> bytes;  // with room to align
    MatrixView view;
  };
  std::map<std::string, Matrix> matrices_;
};

// y = merged x; the gradient of A and B is that of s B A x. REQUIRES: lora.merged.
at::Tensor merged_linear(FrozenWeights& weights, const LoraWeights& lora, const at::Tensor& x);

}  // namespace lapidary
