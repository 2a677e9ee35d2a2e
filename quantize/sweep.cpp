// Batches of columns from last to first; in each, the strips are shared out among threads.
#include "quantize/sweep.h"

#include <algorithm>
#include <vector>

#include "kernels/kernels.h"

namespace lapidary {
namespace {

// H[k][j] for all k, j in columns [first, end), as the kernel wants it; H's upper triangle is kept.
FeedbackView gather(const Factor& factor, int64_t first, int64_t end, FloatMatrix& scratch,
                    ThreadPool& pool) {
  pool.run(factor.n, [&](int64_t k) {
    for (int64_t j = first; j < end; j += kFeedbackTile) {
      float* to = scratch.data() + ((j - first) / kFeedbackTile * factor.n + k) * kFeedbackTile;
      const int64_t below = std::clamp<int64_t>(k - j, 0, kFeedbackTile);
      for (int64_t i = 0; i < below; ++i) to[i] = factor.matrix.row(j + i)[k];
      std::copy(factor.matrix.row(k) + j + below, factor.matrix.row(k) + j + kFeedbackTile,
                to + below);
    }
  });
  return {scratch.data(), factor.n};
}

}  // namespace

void sweep(const Factor& factor, int64_t first_row, int64_t n_rows, float* errors,
           BlockRounder& rounder, FloatMatrix& scratch, ThreadPool& pool, FeedbackLoss* loss) {
  if (factor.blind) return;
  const int64_t n = factor.n, n_strips = (n_rows + kStripRows - 1) / kStripRows;
  scratch.reserve(n, kBatchK);
  std::vector<double> changes(static_cast<size_t>(n_strips)), squares(changes.size());
  for (int64_t end = n; end > 0;) {
    const int64_t first = (end - 1) / kBatchK * kBatchK, n_k = end - first;
    const FeedbackView columns = gather(factor, first, end, scratch, pool);
    pool.run(n_strips, [&](int64_t strip) {
      alignas(64) float slopes[kBatchK * kStripRows] = {};
      float* const all = errors + strip * n * kStripRows;
      for (int64_t j = 0; j < n_k; j += kFeedbackTile)
        kernels().add_outer_products(columns.at(0, j), all, n, slopes + j * kStripRows, kStripRows);
      SweepBlock batch;
      batch.first_row = first_row + strip * kStripRows;
      batch.n_rows = static_cast<int>(std::min<int64_t>(kStripRows, n_rows - strip * kStripRows));
      batch.first_k = first;
      batch.n_k = static_cast<int>(n_k);
      batch.errors = all + first * kStripRows;
      batch.slopes = slopes;
      batch.inner = {columns.at(first, 0), n};
      changes[static_cast<size_t>(strip)] += rounder.improve(batch);
    });
    end = first;
  }
  pool.run(n_strips, [&](int64_t strip) {
    const float* e = errors + strip * n * kStripRows;
    double sum = 0;
    for (int64_t k = 0; k < n; ++k) {
      float square = 0;
      for (int r = 0; r < kStripRows; ++r) square += e[k * kStripRows + r] * e[k * kStripRows + r];
      sum += square;
    }
    squares[static_cast<size_t>(strip)] = sum;
  });
  double change = 0, plain = 0;
  for (size_t strip = 0; strip < changes.size(); ++strip) {
    change += changes[strip];
    plain += squares[strip];
  }
  loss->error = std::max(loss->error + change - factor.ridge * (plain - loss->plain_error), 0.0);
  loss->plain_error = plain;
}

}  // namespace lapidary
