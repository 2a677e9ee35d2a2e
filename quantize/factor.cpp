// Cholesky in panels of 512 columns, themselves in steps of 64; everything but the steps' diagonal
// blocks and triangular solves (1/n-th of the work) is sums of outer products.
//
// While it is factorised the matrix is held negated, so that subtracting a product is adding one.
#include "quantize/factor.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

constexpr int64_t kStep = kOuterTile;
constexpr int64_t kPanel = 512;

class Cholesky {
 public:
  Cholesky(FloatMatrix& m, const std::vector<float>& diagonal, FloatMatrix& scratch,
           ThreadPool& pool)
      : m_(m), diagonal_(diagonal), pool_(pool), n_tiles_(m.rows() / kStep), columns_(scratch) {
    scratch.reserve(m.rows(), kPanel);
  }

  // The lower triangle becomes C with C C^T = H, from H in the upper one and `diagonal`. False when
  // a pivot is not positive.
  bool run() {
    pool_.run(n_tiles_, [&](int64_t tile) { restore(tile); });
    for (int64_t panel = 0; panel < n_tiles_; panel += kPanel / kStep) {
      const int64_t end = std::min(panel + kPanel / kStep, n_tiles_);
      for (int64_t step = panel; step < end; ++step) {
        if (!factor_diagonal(step)) return false;
        const int64_t k = (step - panel) * kStep;
        pool_.run(n_tiles_ - step - 1, [&](int64_t i) { solve(step, step + 1 + i, k); });
        // The panel's own columns.
        pool_.run(n_tiles_ - step - 1, [&](int64_t i) {
          for (int64_t j = step + 1; j < std::min(end, step + 2 + i); ++j)
            subtract(step + 1 + i, j, k, kStep);
        });
      }
      pool_.run(n_tiles_ - end, [&](int64_t i) {
        // Longest rows first, so that no thread is left with one at the end.
        const int64_t row = n_tiles_ - 1 - i;
        for (int64_t j = end; j <= row; ++j) subtract(row, j, 0, kPanel);
      });
    }
    return true;
  }

 private:
  // Lower tiles of one row of tiles: -H.
  void restore(int64_t tile) {
    for (int64_t i = tile * kStep; i < (tile + 1) * kStep; ++i) {
      for (int64_t j = 0; j < i; ++j) m_.row(i)[j] = -m_.row(j)[i];
      m_.row(i)[i] = -diagonal_[static_cast<size_t>(i)];
    }
  }

  bool factor_diagonal(int64_t step) {
    const int64_t first = step * kStep;
    for (int64_t j = first; j < first + kStep; ++j) {
      float* row = m_.row(j);
      double pivot = -double{row[j]};
      for (int64_t k = first; k < j; ++k) pivot -= double{row[k]} * row[k];
      // Below this share of what stood there only rounding errors are left.
      if (!(pivot > 1e-6 * double{diagonal_[static_cast<size_t>(j)]})) return false;
      const double root = std::sqrt(pivot);
      row[j] = static_cast<float>(root);
      for (int64_t i = j + 1; i < first + kStep; ++i) {
        float* below = m_.row(i);
        double sum = -double{below[j]};
        for (int64_t k = first; k < j; ++k) sum -= double{below[k]} * row[k];
        below[j] = static_cast<float>(sum / root);
      }
    }
    return true;
  }

  // Tile (i, step) of C, and the same transposed among the panel's columns.
  void solve(int64_t step, int64_t i, int64_t k) {
    float* out = column(i, k);  // [64 k][64 rows]
    const int64_t first = step * kStep, top = i * kStep;
    for (int64_t c = 0; c < kStep; ++c)
      for (int64_t r = 0; r < kStep; ++r) out[c * kStep + r] = -m_.row(top + r)[first + c];
    for (int64_t c = 0; c < kStep; ++c) {
      const float* row = m_.row(first + c) + first;
      float* to = out + c * kStep;
      for (int64_t before = 0; before < c; ++before) {
        const float factor = row[before];
        const float* from = out + before * kStep;
        for (int64_t r = 0; r < kStep; ++r) to[r] -= factor * from[r];
      }
      const float inverse = 1.0f / row[c];
      for (int64_t r = 0; r < kStep; ++r) to[r] *= inverse;
    }
    for (int64_t r = 0; r < kStep; ++r)
      for (int64_t c = 0; c < kStep; ++c) m_.row(top + r)[first + c] = out[c * kStep + r];
  }

  // (-H) of tile (i, j) += C_i C_j^T over the panel's columns [k, k + n_k).
  void subtract(int64_t i, int64_t j, int64_t k, int64_t n_k) {
    if (i != j) {
      kernels().add_outer_products(column(i, k), column(j, k), n_k, m_.row(i * kStep) + j * kStep,
                                   m_.width());
      return;
    }
    // The upper half of a tile on the diagonal is H's.
    alignas(64) float sums[kStep * kStep] = {};
    kernels().add_outer_products(column(i, k), column(i, k), n_k, sums, kStep);
    for (int64_t r = 0; r < kStep; ++r)
      for (int64_t c = 0; c <= r; ++c) m_.row(i * kStep + r)[i * kStep + c] += sums[r * kStep + c];
  }

  float* column(int64_t i, int64_t k) { return columns_.data() + (i * kPanel + k) * kStep; }

  FloatMatrix& m_;
  const std::vector<float>& diagonal_;
  ThreadPool& pool_;
  int64_t n_tiles_;
  FloatMatrix& columns_;  // of the panel, transposed: [tile][512 k][64 rows]
};

}  // namespace

Factor factorize(Hessian hessian, double damping, FloatMatrix& scratch, ThreadPool& pool) {
  Factor factor;
  factor.n = hessian.padded_n();
  const int64_t n = factor.n;
  const double mean = hessian.trace() / static_cast<double>(hessian.n());
  factor.matrix = std::move(hessian.sums());
  FloatMatrix& m = factor.matrix;
  factor.d.assign(static_cast<size_t>(n), 1.0f);
  factor.blind = !(mean > 0);
  if (factor.blind) return factor;

  std::vector<float> own(static_cast<size_t>(n)), damped(own);
  for (int64_t i = 0; i < n; ++i) own[static_cast<size_t>(i)] = m.row(i)[i];
  pool.run(n / kStep, [&](int64_t tile) {
    for (int64_t i = tile * kStep; i < (tile + 1) * kStep; ++i)
      for (int64_t j = 0; j < i; ++j) m.row(j)[i] = m.row(i)[j];
  });
  for (factor.damping = damping;; factor.damping *= 2) {
    LAPIDARY_CHECK(factor.damping < 1e6);  // H + a multiple of its trace is positive definite
    for (size_t i = 0; i < own.size(); ++i)
      damped[i] = static_cast<float>(own[i] + factor.damping * mean);
    if (Cholesky(m, damped, scratch, pool).run()) break;
  }
  factor.ridge = factor.damping * mean;
  // C to unit columns; its diagonal squared is D, and H's diagonal takes its place.
  for (int64_t i = 0; i < n; ++i) factor.d[static_cast<size_t>(i)] = m.row(i)[i];
  pool.run(n, [&](int64_t i) {
    float* row = m.row(i);
    for (int64_t j = 0; j < i; ++j) row[j] /= factor.d[static_cast<size_t>(j)];
    row[i] = damped[static_cast<size_t>(i)];
  });
  for (float& d : factor.d) d *= d;
  return factor;
}

}  // namespace lapidary
