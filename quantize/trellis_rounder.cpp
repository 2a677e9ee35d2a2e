// One scale block of 64 rows: scales, sequences from the last to the first, scales once more.
#include "quantize/trellis_rounder.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "formats/trellis.h"
#include "kernels/kernels.h"
#include "quantize/trellis_rows.h"

namespace lapidary {
namespace {

constexpr int kRows = kStripRows;
constexpr int kPanels = kRows / kPanelRows;

class BlockSearch {
 public:
  BlockSearch(Code code, const StripBlock& block, int used)
      : searcher_(code), block_(block), n_k_(block.n_k), used_(used) {
    for (int row = 0; row < kRows; ++row)
      scales_[row] = row < block.n_rows ? searcher_.scale_for(block.targets + row, kRows, used) : 0;
    for (int first = 0; first < n_k_; first += kTrellisBlockK) weigh(first);
  }

  const float* scales() const { return scales_; }
  const uint8_t* symbols(int panel) const { return symbols_[panel]; }

  // Searches all sequences at the present scales; values [n_k][64].
  void round(float* values) {
    std::copy_n(block_.targets, n_k_ * kRows, work_);
    for (int first = n_k_ - kTrellisBlockK; first >= 0; first -= kTrellisBlockK) {
      aim(first);
      for (int panel = 0; panel < kPanels; ++panel) round_sequence(panel, first, values);
      const float* v = values + first * kRows;
      const float* w = block_.weights + first * kRows;
      float* e = errors_ + first * kRows;
      for (int i = 0; i < kTrellisBlockK * kRows; ++i) e[i] = w[i] - v[i];
      // Columns of the same tile that are done with have L = 0.
      for (int j = (first - 1) / kFeedbackTile * kFeedbackTile; first > 0 && j >= 0;
           j -= kFeedbackTile)
        kernels().add_outer_products(feedback(first, j), e, kTrellisBlockK, work_ + j * kRows,
                                     kRows);
    }
  }

  // The scales that fit the levels best, in the metric of the outputs; values follow them. With the
  // sums over columns behind, a weight's error at s' times its scale is a - s' b.
  void refit(float* values) {
    float* const a = work_;
    float* const b = errors_;
    std::copy_n(block_.targets, n_k_ * kRows, a);
    std::copy_n(values, n_k_ * kRows, b);
    for (int tile = 0; tile < n_k_; tile += kFeedbackTile) {
      kernels().add_outer_products(feedback(tile, tile), block_.weights + tile * kRows, n_k_ - tile,
                                   a + tile * kRows, kRows);
      kernels().add_outer_products(feedback(tile, tile), values + tile * kRows, n_k_ - tile,
                                   b + tile * kRows, kRows);
    }
    alignas(64) float along[kRows] = {}, norm[kRows] = {};
    for (int k = 0; k < used_; ++k) {
      const float d = block_.importance[k];
      for (int row = 0; row < kRows; ++row) {
        along[row] += d * (a[k * kRows + row] * b[k * kRows + row]);
        norm[row] += d * (b[k * kRows + row] * b[k * kRows + row]);
      }
    }

    for (int row = 0; row < kRows; ++row) {
      if (!(norm[row] > 0) || scales_[row] == 0) continue;
      const float scale =
          scale_to_float(ScaleType::kF16,
                         float_to_scale(ScaleType::kF16, scales_[row] * (along[row] / norm[row])));
      if (!(scale > 0) || !std::isfinite(scale)) continue;
      scales_[row] = scale;
    }
    for (int k = 0; k < used_; ++k)
      for (int row = 0; row < kRows; ++row)
        values[k * kRows + row] = scales_[row] * static_cast<float>(levels_[k][row]);
  }

 private:
  const float* feedback(int k, int j) const {
    return block_.feedback.at(block_.k_in_batch + k, block_.k_in_batch + j);
  }

  // What an error of a column costs by itself: at its own column and, by L, at those before it in
  // the sequence.
  void weigh(int first) {
    for (int k = first; k < first + kTrellisBlockK; ++k) {
      float cost = block_.importance[k];
      for (int j = first; j < k; ++j)
        cost += block_.importance[j] * *feedback(k, j) * *feedback(k, j);
      root_importance_[k] = k < used_ ? std::sqrt(cost) : 0.0f;
    }
    // The search wants weights near one.
    const float largest =
        *std::max_element(root_importance_ + first, root_importance_ + first + kTrellisBlockK);
    for (int k = first; k < first + kTrellisBlockK && largest > 0; ++k)
      root_importance_[k] /= largest;
  }

  // Targets of a sequence that leave no error at any of its columns: those of columns that only
  // hear from behind the sequence, less what the sequence's own changes do to each other.
  void aim(int first) {
    const float* w = block_.weights;
    for (int j = first + kTrellisBlockK - 2; j >= first; --j)
      for (int k = j + 1; k < first + kTrellisBlockK; ++k) {
        const float l = *feedback(k, j);
        for (int row = 0; row < kRows; ++row)
          work_[j * kRows + row] -= l * (work_[k * kRows + row] - w[k * kRows + row]);
      }
  }

  void round_sequence(int panel, int first, float* values) {
    const int first_row = panel * kPanelRows;
    int8_t levels[kTrellisSteps];
    searcher_.round_block(work_ + first * kRows + first_row, 1, kRows, scales_ + first_row,
                          root_importance_ + first, symbols_[panel] + first * kPanelRows, levels);
    for (int t = 0; t < kTrellisSteps; ++t) {
      const int row = first_row + t % 64 / 4, k = first + t / 64 * 4 + t % 4;
      levels_[k][row] = k < used_ ? levels[t] : int8_t{0};
      values[k * kRows + row] = scales_[row] * static_cast<float>(levels_[k][row]);
    }
  }

  TrellisSearcher searcher_;
  const StripBlock& block_;
  int n_k_, used_;
  alignas(64) float scales_[kRows];
  alignas(64) float root_importance_[kMostBlockK];
  alignas(64) float work_[kMostBlockK * kRows];  // targets with the feedback inside the block
  alignas(64) float errors_[kMostBlockK * kRows];
  alignas(64) int8_t levels_[kMostBlockK][kRows];
  alignas(64) uint8_t symbols_[kPanels][kMostBlockK * kPanelRows];  // in the order of lines
};

}  // namespace

TrellisRounder::TrellisRounder(const PanelStore& store, const TrellisRounding& options)
    : store_(store), options_(options) {
  LAPIDARY_CHECK(traits(store.g.code).is_trellis);
}

int TrellisRounder::block_k() const { return traits(store_.g.code).scale_k; }

void TrellisRounder::round(const StripBlock& block) {
  BlockSearch search(store_.g.code, block, store_.used_columns(block));
  search.round(block.values);
  search.refit(block.values);
  for (int i = 0; i < options_.refits; ++i) {
    search.round(block.values);
    search.refit(block.values);
  }
  for (int first = 0; first < block.n_rows; first += kPanelRows) {
    for (int tile = 0; tile < block.n_k; tile += kTileK)
      store_.put_lines(block, first, tile, search.symbols(first / kPanelRows) + tile * kPanelRows);
    store_.put_scales(block, first, search.scales() + first);
  }
}

}  // namespace lapidary
