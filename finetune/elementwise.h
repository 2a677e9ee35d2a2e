// The gated activation and RMSNorm of every layer, with gradients.
//
// Custom functions, because autograd of the plain formulas would keep several copies of what is
// already saved, and because pieces of a few tokens stay in a cache and share out over threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "finetune/frozen_weights.h"
#include "formats/model_config.h"

namespace lapidary {

// activation(gate) * up. `weights` lends its threads, and must outlive the graph.
at::Tensor gated_activation(FrozenWeights& weights, Activation activation, const at::Tensor& gate,
                            const at::Tensor& up);

// x * rsqrt(mean(x^2) + eps) * weight over the last dimension; weight [width] without gradient, or
// undefined for none.
at::Tensor rms_norm(FrozenWeights& weights, const at::Tensor& x, const at::Tensor& weight,
                    double eps);

}  // namespace lapidary
