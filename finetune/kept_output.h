// One result of a recomputed layer, kept from its first run for its second.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <utility>

#include "finetune/frozen_weights.h"
#include "finetune/kept_plan.h"

namespace lapidary {

// The first run puts a result in, the second takes it out. Where products take bfloat16, results
// are kept so, and the first run goes on with the rounded values as well: both runs see the same.
class KeptOutput {
 public:
  bool has_value() const { return value_.defined(); }
  // y [n, width], contiguous, float32; rounded in place where it is kept rounded.
  void put(FrozenWeights& weights, const at::Tensor& y);
  at::Tensor take(FrozenWeights& weights);

 private:
  at::Tensor value_;
};

// What `make` gives, or what it gave before. Null: always made.
template <class F>
at::Tensor make_or_take(FrozenWeights& weights, KeptOutput* kept, F&& make) {
  if (kept && kept->has_value()) return kept->take(weights);
  at::Tensor y = std::forward<F>(make)();
  if (kept) kept->put(weights, y);
  return y;
}

// Those of one layer. `parts`: its bits of a KeptPlan.
class KeptLayer {
 public:
  explicit KeptLayer(uint32_t parts = 0) : parts_(parts) {}
  // Null: not kept.
  KeptOutput* find(LayerPart part) {
    const auto p = static_cast<size_t>(part);
    return (parts_ >> p & 1) != 0 ? &outputs_[p] : nullptr;
  }

 private:
  uint32_t parts_;
  std::array<KeptOutput, kLayerParts> outputs_;
};

}  // namespace lapidary
