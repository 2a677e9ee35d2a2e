// Activation checkpointing: run a piece of the model without keeping what its backward pass needs,
// and run it again when that pass comes.
//
// Gradients are the same to the last bit, since the second run does the same arithmetic. Adapter
// parameters used inside receive their gradients during the inner backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace lapidary {

using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

// f(inputs), recomputed in the backward pass. Inputs and outputs are defined float tensors; tensors
// that f captures get no gradient unless they are leaves. With `round_first`, the first input is
// rounded to bfloat16 for f, both times, and kept so; its gradient passes the rounding unchanged.
std::vector<at::Tensor> recompute(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                  bool round_first = false);

}  // namespace lapidary
