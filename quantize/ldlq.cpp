// Batches of columns from last to first; in each, the strips are shared out among threads.
#include "quantize/ldlq.h"

#include <algorithm>

#include "formats/error.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

// One strip's sums, added up in the order of strips.
struct StripLoss {
  double error = 0, energy = 0, plain_error = 0, plain_energy = 0;
};

class Feedback {
 public:
  Feedback(const Factor& factor, int64_t first_row, int64_t n_rows, float* w, BlockRounder& rounder,
           FloatMatrix& scratch, ThreadPool& pool)
      : factor_(factor),
        first_row_(first_row),
        n_rows_(n_rows),
        w_(w),
        rounder_(rounder),
        scratch_(scratch),
        pool_(pool),
        losses_(static_cast<size_t>((n_rows + kStripRows - 1) / kStripRows)) {
    scratch.reserve(factor.n, kBatchK);
  }

  FeedbackLoss run() {
    keep_originals();
    for (int64_t end = factor_.n; end > 0;) {
      const int64_t first = (end - 1) / kBatchK * kBatchK;
      gather(first, end);
      pool_.run(static_cast<int64_t>(losses_.size()),
                [&](int64_t strip) { round_batch(strip, first, end); });
      end = first;
    }
    FeedbackLoss total;
    double sampled = 0;
    for (size_t strip = 0; strip < losses_.size(); ++strip) {
      const StripLoss& loss = losses_[strip];
      total.error += loss.error;
      total.energy += loss.energy;
      total.plain_error += loss.plain_error;
      total.plain_energy += loss.plain_energy;
      if (static_cast<int64_t>(strip) % energy_stride() == 0) sampled += loss.plain_energy;
    }
    if (sampled > 0) total.energy *= total.plain_energy / sampled;
    total.error = std::max(total.error - factor_.ridge * total.plain_error, 0.0);
    total.energy -= factor_.ridge * total.plain_energy;
    return total;
  }

 private:
  // L[k][j] for k from the batch's first column to the last of all, j in the batch, as the kernel
  // wants it; ones on the diagonal are left out.
  void gather(int64_t first, int64_t end) {
    view_ = {scratch_.data(), factor_.n - first};
    pool_.run(view_.n_rows, [&](int64_t i) {
      const int64_t k = first + i;
      const float* from = factor_.matrix.row(k);
      for (int64_t j = first; j < end; j += kFeedbackTile) {
        float* to =
            scratch_.data() + ((j - first) / kFeedbackTile * view_.n_rows + i) * kFeedbackTile;
        const int64_t below = factor_.blind ? 0 : std::clamp<int64_t>(k - j, 0, kFeedbackTile);
        std::copy_n(from + j, below, to);
        std::fill(to + below, to + kFeedbackTile, 0.0f);
      }
    });
  }

  void round_batch(int64_t strip, int64_t first, int64_t end) {
    alignas(64) float targets[kBatchK * kStripRows];
    alignas(64) float weights[kBatchK * kStripRows];
    alignas(64) float values[kBatchK * kStripRows];
    alignas(64) float behind[kBatchK * kStripRows];  // feedback of the columns behind the batch
    const KernelTable& table = kernels();
    const int64_t n_k = end - first, row = strip * kStripRows;
    float* const own = w_ + (strip * factor_.n + first) * kStripRows;
    std::copy_n(own, n_k * kStripRows, weights);
    std::fill_n(behind, n_k * kStripRows, 0.0f);
    for (int64_t j = 0; j < n_k && end < factor_.n; j += kFeedbackTile)
      table.add_outer_products(view_.at(n_k, j), own + n_k * kStripRows, factor_.n - end,
                               behind + j * kStripRows, kStripRows);
    for (int64_t i = 0; i < n_k * kStripRows; ++i) targets[i] = weights[i] + behind[i];
    StripLoss& loss = losses_[static_cast<size_t>(strip)];
    const int64_t block_k = rounder_.block_k();
    for (int64_t stop = n_k; stop > 0;) {
      const int64_t start = (stop - 1) / block_k * block_k;
      StripBlock block;
      block.first_row = first_row_ + row;
      block.n_rows = static_cast<int>(std::min<int64_t>(kStripRows, n_rows_ - row));
      block.first_k = first + start;
      block.n_k = static_cast<int>(stop - start);
      block.weights = weights + start * kStripRows;
      block.targets = targets + start * kStripRows;
      block.values = values + start * kStripRows;
      block.importance = factor_.d.data() + first + start;
      block.feedback = view_;
      block.k_in_batch = start;
      rounder_.round(block);
      leave_errors(block, own + start * kStripRows, loss);
      // To the tiles in front; within its own tile to all columns, of which the later ones are done
      // with and have L = 0.
      if (start > 0)
        for (int64_t j = (start - 1) / kFeedbackTile * kFeedbackTile; j >= 0; j -= kFeedbackTile)
          table.add_outer_products(view_.at(start, j), own + start * kStripRows, stop - start,
                                   targets + j * kStripRows, kStripRows);
      stop = start;
    }
    loss.error += output_energy(own, n_k, first, behind);
    add_sampled_energy(strip, first, end, behind);
  }

  // The strip's columns become W - W'.
  static void leave_errors(const StripBlock& block, float* errors, StripLoss& loss) {
    for (int64_t k = 0; k < block.n_k; ++k) {
      float error = 0, energy = 0;
      for (int r = 0; r < kStripRows; ++r) {
        const int64_t at = k * kStripRows + r;
        const float e = r < block.n_rows ? block.weights[at] - block.values[at] : 0.0f;
        errors[at] = e;
        error += e * e;
        energy += block.weights[at] * block.weights[at];
      }
      loss.plain_error += error;
      loss.plain_energy += energy;
    }
  }

  // The batch's part of tr(X H X^T) = sum over columns of D_j (X L)_j^2, for a strip x [n][64].
  // `sums` are those over columns behind the batch.
  double output_energy(const float* x, int64_t n_k, int64_t first, float* sums) const {
    double energy = 0;
    for (int64_t j = 0; j < n_k; j += kFeedbackTile) {
      kernels().add_outer_products(view_.at(j, j), x + j * kStripRows, n_k - j,
                                   sums + j * kStripRows, kStripRows);
      for (int64_t k = j; k < std::min(j + kFeedbackTile, n_k); ++k) {
        float squares = 0;
        for (int r = 0; r < kStripRows; ++r) {
          const float y = x[k * kStripRows + r] + sums[k * kStripRows + r];
          squares += y * y;
        }
        energy += double{squares} * factor_.d[static_cast<size_t>(first + k)];
      }
    }
    return energy;
  }

  // tr(W H W^T) costs as much as the feedback itself: wide matrices have it from every 8th strip.
  int64_t energy_stride() const { return factor_.n > 2048 ? 8 : 1; }
  void keep_originals() {
    const int64_t n_strips = static_cast<int64_t>(losses_.size());
    const int64_t stride = energy_stride(), strip_floats = factor_.n * kStripRows;
    originals_ = FloatMatrix((n_strips + stride - 1) / stride, strip_floats);
    pool_.run(originals_.rows(), [&](int64_t i) {
      std::copy_n(w_ + i * stride * strip_floats, strip_floats, originals_.row(i));
    });
  }
  void add_sampled_energy(int64_t strip, int64_t first, int64_t end, float* sums) {
    if (strip % energy_stride() != 0) return;
    const float* x = originals_.row(strip / energy_stride());
    const int64_t n_k = end - first;
    std::fill_n(sums, n_k * kStripRows, 0.0f);
    for (int64_t j = 0; j < n_k && end < factor_.n; j += kFeedbackTile)
      kernels().add_outer_products(view_.at(n_k, j), x + end * kStripRows, factor_.n - end,
                                   sums + j * kStripRows, kStripRows);
    losses_[static_cast<size_t>(strip)].energy +=
        output_energy(x + first * kStripRows, n_k, first, sums);
  }

  const Factor& factor_;
  int64_t first_row_, n_rows_;
  float* w_;
  BlockRounder& rounder_;
  FloatMatrix& scratch_;
  ThreadPool& pool_;
  std::vector<StripLoss> losses_;
  FloatMatrix originals_;  // W of the strips whose output energy is taken
  FeedbackView view_;
};

}  // namespace

FeedbackLoss round_with_feedback(const Factor& factor, int64_t first_row, int64_t n_rows, float* w,
                                 BlockRounder& rounder, FloatMatrix& scratch, ThreadPool& pool) {
  LAPIDARY_CHECK(first_row % kStripRows == 0 && kBatchK % rounder.block_k() == 0);
  return Feedback(factor, first_row, n_rows, w, rounder, scratch, pool).run();
}

}  // namespace lapidary
