// Squares of whole weight gradients, summed by row and by column, without holding a gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "finetune/frozen_weights.h"

namespace lapidary {

struct GradientSquares {
  std::vector<double> rows, columns;
};

// What comes to single rows of a matrix beside dy^T x: a lookup's gradient.
struct RowGradients {
  std::span<const int32_t> rows;  // of the matrix, one per row of `gradients`
  at::Tensor gradients;           // [rows.size(), k]
};

// Adds the squares of G = dy^T x + lookups: row i of G to rows[first_row + i], columns to columns.
// dy [n_tokens, n_rows], x [n_tokens, k], float32; both may be undefined: then G is the lookups
// alone. G exists some rows at a time; the sums do not depend on the number of threads.
void add_squares(FrozenWeights& weights, const at::Tensor& dy, const at::Tensor& x,
                 const RowGradients& lookups, int64_t first_row, GradientSquares& squares);

}  // namespace lapidary
