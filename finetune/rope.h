// Rotary embedding with gradients. Autograd of the plain formula suffices: it is linear.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "formats/model_config.h"

namespace lapidary {

struct RopeTables {
  at::Tensor cos, sin;  // [n_tokens, 1, head_dim / 2]
};
RopeTables rope_tables(const RopeConfig& rope, int head_dim, const std::vector<int64_t>& positions);
// Half-split rotation of x [n_tokens, n_heads, head_dim]: pair i is (x_i, x_{i + head_dim/2}).
at::Tensor apply_rope(const at::Tensor& x, const RopeTables& tables);

}  // namespace lapidary
