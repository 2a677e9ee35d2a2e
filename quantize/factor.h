// The factorisation H = L D L^T of a damped Hessian, in place: what error feedback needs.
//
// L is unit lower triangular, D diagonal. H + damping * mean(diag H) * I is factorised by a blocked
// Cholesky; when a pivot fails, damping grows until it does not. The upper triangle keeps H, so one
// matrix of memory is all it takes. Deterministic for any number of threads.
//
// Source: LDLQ, arXiv 2307.13304, section 3; blocked right-looking Cholesky is textbook.
#pragma once

#include <vector>

#include "quantize/hessian.h"

namespace lapidary {

struct Factor {
  int64_t n = 0;         // padded to 64
  FloatMatrix matrix;    // strictly below the diagonal: L; above: H
  std::vector<float> d;  // [n], of the damped H
  double damping = 0;    // relative to the mean of H's diagonal; what was needed in the end
  double ridge = 0;      // what was added to the diagonal: damping * mean
  bool blind = false;    // H was zero: L = I, D = 1, and rounding is plain
};

// Takes the Hessian's memory. `scratch` is grown to [padded_n, 512].
Factor factorize(Hessian hessian, double damping, FloatMatrix& scratch, ThreadPool& pool);

}  // namespace lapidary
