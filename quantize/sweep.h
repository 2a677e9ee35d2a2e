// A second look at a rounded matrix: every piece of it is chosen once more, now that all others are
// known.
//
// Error feedback (quantize/ldlq.h) rounds a column knowing the columns behind it and hoping that
// those in front can make up for its error. A sweep knows both sides. With everything else fixed,
// changing stored values by d changes the outputs' error tr(E H E^T), E = W - W', by
//
//   d H d^T - 2 d (E H)^T
//
// for each row, which a rounder makes as negative as its code allows; it keeps what it had where
// nothing is better. So the loss never rises, and each sweep costs two products of E with H beside
// the search.
//
// Source: coordinate descent as in QuantEase (arXiv 2309.01885) and CDQuant (arXiv 2406.17542),
// started from LDLQ's result; here over blocks of columns.
#pragma once

#include <cstdint>

#include "quantize/ldlq.h"

namespace lapidary {

// One sweep over rows [first_row, first_row + n_rows) from the last column to the first. errors
// [strips][factor.n][64]: W - W' as round_with_feedback leaves it, brought up to date; `loss` of
// the same rows too. Does nothing where nothing was seen (factor.blind). REQUIRES:
// rounder.improves().
void sweep(const Factor& factor, int64_t first_row, int64_t n_rows, float* errors,
           BlockRounder& rounder, FloatMatrix& scratch, ThreadPool& pool, FeedbackLoss* loss);

}  // namespace lapidary
