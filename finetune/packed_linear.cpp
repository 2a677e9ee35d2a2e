// The custom autograd function of QLoRA.
#include "finetune/packed_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PackedLinearFunction : torch::autograd::Function<PackedLinearFunction> {
  // Addresses travel as integers because the context stores nothing else that is plain.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t weights,
                            int64_t matrix) {
    context->saved_data["weights"] = weights;
    context->saved_data["matrix"] = matrix;
    return reinterpret_cast<FrozenWeights*>(weights)->multiply(
        *reinterpret_cast<const MatrixView*>(matrix), x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    auto* weights = reinterpret_cast<FrozenWeights*>(context->saved_data["weights"].toInt());
    const auto* w = reinterpret_cast<const MatrixView*>(context->saved_data["matrix"].toInt());
    return {weights->multiply_transposed(*w, gradients[0].contiguous()), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor packed_linear(FrozenWeights& weights, const MatrixView& w, const at::Tensor& x) {
  return PackedLinearFunction::apply(x, reinterpret_cast<int64_t>(&weights),
                                     reinterpret_cast<int64_t>(&w));
}

}  // namespace lapidary
