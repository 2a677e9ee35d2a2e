// y = x W^T for a frozen, possibly packed W, alone or with a LoRA update beside it.
//
// Forward and backward each walk over W once, dequantizing a bounded piece at a time; neither keeps
// anything of W alive in between. Without an update x is not saved either: the gradient dx = dy W
// does not need it. With one, z = x A^T is saved beside x:
//   y = x W^T + s z B^T,  dz = s dy B,  dx = dy W + dz A,  dA = dz^T x,  dB = s dy^T z
#pragma once

#include <ATen/core/Tensor.h>

#include "finetune/frozen_weights.h"
#include "finetune/kept_output.h"
#include "formats/packed_matrix.h"

namespace lapidary {

// x [n_tokens, w.k] float32 -> [n_tokens, w.rows]. `weights` and `w` must outlive the graph. What
// `kept` holds is not computed (null: nothing).
at::Tensor packed_linear(FrozenWeights& weights, const MatrixView& w, const at::Tensor& x,
                         KeptOutput* kept = nullptr);
// The same with the update; a [rank, w.k] and b [w.rows, rank] get gradients.
at::Tensor lora_linear(FrozenWeights& weights, const MatrixView& w, const at::Tensor& x,
                       const at::Tensor& a, const at::Tensor& b, double scale,
                       KeptOutput* kept = nullptr);

}  // namespace lapidary
