// y = x W^T for a frozen, possibly packed W, with a gradient for x only.
//
// Forward and backward each walk over W once, dequantizing a bounded piece at a time; neither keeps
// anything of W alive in between. x itself is not saved: the gradient dx = dy W does not need it.
#pragma once

#include <ATen/core/Tensor.h>

#include "finetune/frozen_weights.h"
#include "formats/packed_matrix.h"

namespace lapidary {

// x [n_tokens, w.k] float32 -> [n_tokens, w.rows]. `weights` and `w` must outlive the graph.
at::Tensor packed_linear(FrozenWeights& weights, const MatrixView& w, const at::Tensor& x);

}  // namespace lapidary
