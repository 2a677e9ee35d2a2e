// RMSNorm and rotary embedding with gradients: the two small operations of every layer.
//
// RMSNorm is a custom function because autograd of the plain formula would keep four copies of x.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "formats/model_config.h"

namespace lapidary {

// x * rsqrt(mean(x^2) + eps) * weight over the last dimension; weight [width] without gradient.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

struct RopeTables {
  at::Tensor cos, sin;  // [n_tokens, 1, head_dim / 2]
};
RopeTables rope_tables(const RopeConfig& rope, int head_dim, const std::vector<int64_t>& positions);
// Half-split rotation of x [n_tokens, n_heads, head_dim]: pair i is (x_i, x_{i + head_dim/2}).
at::Tensor apply_rope(const at::Tensor& x, const RopeTables& tables);

}  // namespace lapidary
