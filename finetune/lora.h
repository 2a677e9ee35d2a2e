// The trained part: low-rank updates beside frozen matrices (LoRA, rsLoRA, DoRA).
//
//   LoRA  y = W x + s B A x              s = alpha / rank, or alpha / sqrt(rank) for rsLoRA
//   DoRA  y = (m / |W + s B A|) (W x + s B A x)    norm per row, held constant in the gradient
//
// Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA), Liu et al. 2024 (DoRA), with the
// conventions of the `peft` package, whose training curves the tests reproduce.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "finetune/frozen_weights.h"
#include "finetune/kept_output.h"
#include "finetune/targets.h"
#include "formats/packed_matrix.h"
#include "formats/peft.h"

namespace lapidary {

// The update beside one matrix.
struct LoraPart {
  const MatrixView* matrix;
  double scale;
  at::Tensor a, b, magnitude;  // [rank, in], [out, rank], [out] or undefined; leaves
  at::Tensor row_norm;         // DoRA: |W + s B A| per row, as of the last refresh()
  // Merge-aware training: W + s B A as a merge will store it; it then stands for both. Null: none.
  const MatrixView* merged = nullptr;
};

// What is trained of one module: a matrix, or a stack of experts.
struct LoraWeights {
  std::string module;
  int64_t n_experts = 0;  // 0: one matrix
  // As its part's; of a stack [n_experts, rank, in], [n_experts, out, rank], [n_experts, out].
  at::Tensor a, b, magnitude;
  // One, or each expert's: leaves of their own whose values and gradients lie in the stack's, so
  // that an expert's gradient costs that expert's size.
  std::vector<LoraPart> parts;
};

// A new adapter's numbers: A uniform in +-1/sqrt(in) as PEFT draws it (Kaiming, a = sqrt(5)), B
// zero, magnitude empty (set from the base when it is first used). The config's targets may be
// names as resolve_targets() takes them; the adapter's are as PEFT has them. Throws kUsage.
PeftAdapter new_adapter(const PeftConfig& config, const std::vector<AdaptableMatrix>& matrices,
                        uint64_t seed);

class LoraSet {
 public:
  // Throws kBadData when a module of `initial` is not in `matrices` or has another shape.
  LoraSet(const PeftAdapter& initial, const std::vector<AdaptableMatrix>& matrices,
          FrozenWeights& weights);

  const LoraWeights* find(std::string_view module) const;  // null: not adapted
  std::vector<LoraWeights>& modules() { return modules_; }

  // Recomputes DoRA's row norms from the present A and B. Call before each step.
  void refresh(FrozenWeights& weights);
  PeftAdapter to_peft() const;
  int64_t trained_parameters() const;

 private:
  PeftAdapter description_;  // config and base identity; no modules
  std::vector<LoraWeights> modules_;
};

// The adapted product: x [n_tokens, in] to [n_tokens, out]. `kept` as in packed_linear.h; with DoRA
// it holds the base's product.
at::Tensor adapted_linear(FrozenWeights& weights, const LoraPart& lora, const at::Tensor& x,
                          KeptOutput* kept = nullptr);

}  // namespace lapidary
