// Trellis sequences chosen once more, each knowing all others, and then their scales.
//
// The search takes an error of each column alone, but a sequence's 16 columns hear each other
// through H. So it is given a bound on the true loss that touches it at what is stored now: with
// weights b_k = sum over the sequence's columns of |H_kj| (Gershgorin) it aims at the stored value
// plus slope / b_k. What is found is kept if the true loss fell. Smaller weights take larger steps
// and leave less of H's loss (8 % less where the bound takes 6), but the models' KLD is the same.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/trellis.h"
#include "kernels/kernels.h"
#include "kernels/pack_lines.h"
#include "quantize/trellis_rounder.h"
#include "quantize/trellis_rows.h"

namespace lapidary {
namespace {

constexpr int kRows = kStripRows;
constexpr int kPanels = kRows / kPanelRows;
constexpr int kBlock = kTrellisBlockK;

class BatchSweep {
 public:
  BatchSweep(const PanelStore& store, const SweepBlock& batch)
      : store_(store),
        batch_(batch),
        searcher_(store.g.code),
        bits_(traits(store.g.code).bits),
        n_panels_((batch.n_rows + kPanelRows - 1) / kPanelRows) {
    place_.first_row = batch.first_row;
    place_.n_rows = batch.n_rows;
    place_.first_k = batch.first_k;
    place_.n_k = batch.n_k;
    used_ = store.used_columns(place_);
  }

  double run() {
    load();
    for (int first = batch_.n_k - kBlock; first >= 0; first -= kBlock) {
      weigh(first);
      std::fill_n(change_, kBlock * kRows, 0.0f);
      bool any = false;
      for (int panel = 0; panel < n_panels_; ++panel) any = search(panel, first) || any;
      if (any) apply(first);
    }
    refit();
    store();
    return total_;
  }

 private:
  void load() {
    for (int panel = 0; panel < n_panels_; ++panel) {
      for (int tile = 0; tile < batch_.n_k; tile += kTileK)
        store_.get_lines(place_, panel * kPanelRows, tile, symbols_[panel] + tile * kPanelRows);
      store_.get_scales(place_, panel * kPanelRows, scales_ + panel * kPanelRows);
      for (int first = 0; first < batch_.n_k; first += kBlock)
        decode(symbols_[panel] + first * kPanelRows, panel, first);
    }
  }

  void store() const {
    for (int panel = 0; panel < n_panels_; ++panel) {
      for (int tile = 0; tile < batch_.n_k; tile += kTileK)
        store_.put_lines(place_, panel * kPanelRows, tile, symbols_[panel] + tile * kPanelRows);
      store_.put_scales(place_, panel * kPanelRows, scales_ + panel * kPanelRows);
    }
  }

  void decode(const uint8_t* symbols, int panel, int first) {
    int8_t levels[kTrellisSteps];
    trellis_levels(bits_, {symbols, kTrellisSteps}, levels);
    put_levels(levels, panel, first);
  }

  void put_levels(const int8_t* levels, int panel, int first) {
    for (int k = 0; k < kBlock; ++k)
      for (int r = 0; r < kPanelRows; ++r)
        levels_[first + k][panel * kPanelRows + r] =
            first + k < used_ ? levels[line_index(r, k)] : int8_t{0};
  }

  float h(int k, int j) const { return *batch_.inner.at(k, j); }
  const float* slope(int k) const { return batch_.slopes + k * kRows; }

  void weigh(int first) {
    float largest = 0;
    for (int k = 0; k < kBlock; ++k) {
      bound_[k] = 0;
      for (int j = 0; j < kBlock; ++j) bound_[k] += std::fabs(h(first + k, first + j));
      largest = std::max(largest, bound_[k]);
    }
    for (int k = 0; k < kBlock; ++k)
      root_importance_[k] =
          first + k < used_ && largest > 0 ? std::sqrt(bound_[k] / largest) : 0.0f;
  }

  // True when something better was found; change_ has what it does to E.
  bool search(int panel, int first) {
    const int row = panel * kPanelRows;
    float aims[kBlock * kPanelRows], d[kBlock * kPanelRows];
    for (int k = 0; k < kBlock; ++k)
      for (int r = 0; r < kPanelRows; ++r)
        aims[k * kPanelRows + r] =
            scales_[row + r] * static_cast<float>(levels_[first + k][row + r]) +
            (bound_[k] > 0 ? slope(first + k)[row + r] / bound_[k] : 0.0f);
    uint8_t symbols[kTrellisSteps];
    int8_t levels[kTrellisSteps];
    searcher_.round_block(aims, 1, kPanelRows, scales_ + row, root_importance_, symbols, levels);
    for (int k = 0; k < kBlock; ++k)
      for (int r = 0; r < kPanelRows; ++r) {
        const int steps = levels[line_index(r, k)] - levels_[first + k][row + r];
        d[k * kPanelRows + r] =
            first + k < used_ ? scales_[row + r] * static_cast<float>(steps) : 0.0f;
      }
    const double fall = change_of_loss(d, first, row);
    if (!(fall < 0)) return false;
    total_ += fall;
    std::copy_n(symbols, kTrellisSteps, symbols_[panel] + first * kPanelRows);
    put_levels(levels, panel, first);
    for (int k = 0; k < kBlock; ++k)
      for (int r = 0; r < kPanelRows; ++r) change_[k * kRows + row + r] = -d[k * kPanelRows + r];
    return true;
  }

  // Sum over the panel's rows of d H d^T - 2 d (E H)^T.
  double change_of_loss(const float* d, int first, int row) const {
    double sum = 0;
    for (int k = 0; k < kBlock; ++k) {
      float through[kPanelRows] = {}, part = 0;
      for (int j = 0; j < kBlock; ++j)
        for (int r = 0; r < kPanelRows; ++r)
          through[r] += h(first + k, first + j) * d[j * kPanelRows + r];
      for (int r = 0; r < kPanelRows; ++r)
        part += d[k * kPanelRows + r] * (through[r] - 2 * slope(first + k)[row + r]);
      sum += part;
    }
    return sum;
  }

  void apply(int first) {
    float* errors = batch_.errors + first * kRows;
    for (int i = 0; i < kBlock * kRows; ++i) errors[i] += change_[i];
    for (int j = 0; j < batch_.n_k; j += kFeedbackTile)
      kernels().add_outer_products(batch_.inner.at(first, j), change_, kBlock,
                                   batch_.slopes + j * kRows, kRows);
  }

  // The scale of each row that leaves least, all levels fixed.
  void refit() {
    alignas(64) float values[kBatchK * kRows], through[kBatchK * kRows];
    alignas(64) float along[kRows] = {}, norm[kRows] = {}, by[kRows] = {};
    for (int k = 0; k < batch_.n_k; ++k)
      for (int row = 0; row < kRows; ++row)
        values[k * kRows + row] = scales_[row] * static_cast<float>(levels_[k][row]);
    std::fill_n(through, batch_.n_k * kRows, 0.0f);
    for (int j = 0; j < batch_.n_k; j += kFeedbackTile)
      kernels().add_outer_products(batch_.inner.at(0, j), values, batch_.n_k, through + j * kRows,
                                   kRows);
    for (int k = 0; k < batch_.n_k; ++k)
      for (int row = 0; row < kRows; ++row) {
        along[row] += values[k * kRows + row] * slope(k)[row];
        norm[row] += values[k * kRows + row] * through[k * kRows + row];
      }
    for (int row = 0; row < batch_.n_rows; ++row) {
      if (!(norm[row] > 0) || scales_[row] == 0) continue;
      const float scale = scale_to_float(
          ScaleType::kF16,
          float_to_scale(ScaleType::kF16, scales_[row] * (1 + along[row] / norm[row])));
      if (!(scale > 0) || !std::isfinite(scale)) continue;
      const float change = scale / scales_[row] - 1;
      const float fall = change * (change * norm[row] - 2 * along[row]);
      if (!(fall < 0)) continue;
      total_ += fall;
      by[row] = change;
      scales_[row] = scale;
    }
    for (int k = 0; k < batch_.n_k; ++k)
      for (int row = 0; row < kRows; ++row) {
        batch_.errors[k * kRows + row] -= by[row] * values[k * kRows + row];
        batch_.slopes[k * kRows + row] -= by[row] * through[k * kRows + row];
      }
  }

  const PanelStore& store_;
  const SweepBlock& batch_;
  TrellisSearcher searcher_;
  int bits_, n_panels_, used_ = 0;
  StripBlock place_{};  // where the batch is stored
  double total_ = 0;    // change of the loss
  float bound_[kBlock], root_importance_[kBlock], scales_[kRows] = {};
  alignas(64) float change_[kBlock * kRows];  // of E, in a block
  alignas(64) int8_t levels_[kBatchK][kRows] = {};
  alignas(64) uint8_t symbols_[kPanels][kBatchK * kPanelRows];  // in the order of lines
};

}  // namespace

double TrellisRounder::improve(const SweepBlock& batch) { return BatchSweep(store_, batch).run(); }

}  // namespace lapidary
