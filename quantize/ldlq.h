// Rounding with error feedback: the error of a column is made up for by the columns not yet
// rounded, as far as inputs that go together allow.
//
//   q_j = Q(w_j + sum over k > j of (w_k - q_k) L[k][j]),  H = L D L^T,  from the last column on
//
// tr(E H E^T) is then the sum over columns of D_j times the squared rounding of targets, the least
// that rounding column by column can reach. The sums over far columns are taken in batches of 512
// columns at the speed of a matrix product; near ones tile by tile.
//
// Source: GPTQ, arXiv 2210.17323; LDLQ, arXiv 2307.13304 (the same optimum, one factorisation).
#pragma once

#include <span>

#include "quantize/block_rounder.h"
#include "quantize/factor.h"

namespace lapidary {

// Sums over the rows that were rounded, E = W - W'.
struct FeedbackLoss {
  double error = 0;   // tr(E H E^T), H as it was measured, without damping
  double energy = 0;  // tr(W H W^T); of wide matrices estimated from every 8th strip
  double plain_error = 0, plain_energy = 0;  // ||E||^2, ||W||^2
};

// Rounds rows [first_row, first_row + n_rows) of a matrix. w [strips][factor.n][64]: the weights in
// the stored basis, strip after strip, zero beyond rows and columns of the matrix; becomes W - W'.
// REQUIRES: first_row a multiple of 64.
FeedbackLoss round_with_feedback(const Factor& factor, int64_t first_row, int64_t n_rows, float* w,
                                 BlockRounder& rounder, FloatMatrix& scratch, ThreadPool& pool);

}  // namespace lapidary
