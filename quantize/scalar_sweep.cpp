// Levels of scalar codes chosen once more, column by column, each knowing all others.
//
// With everything else fixed the loss is a parabola in one weight, least at the stored value plus
// slope / H_kk: the nearest level to that is the best there is. Scales and multipliers stay.
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "kernels/pack_lines.h"
#include "quantize/scalar_rounder.h"
#include "quantize/scalar_search.h"

namespace lapidary {
namespace {

using scalar::kRows, scalar::kPanels, scalar::RowFloats;

class TileSweep {
 public:
  TileSweep(const PanelStore& store, const SweepBlock& batch)
      : store_(store), batch_(batch), table_(levels(store.g.code)), index_of_(store.g.code) {
    const RoundingRule rule = rounding_rule(store.g.code, true);
    nearest_ = {rule.low, rule.high, rule.is_w3};
    n_panels_ = (batch.n_rows + kPanelRows - 1) / kPanelRows;
  }

  // Of 64 columns from `first` of the batch on. Gives the change of the loss.
  double run(int first) {
    place_.first_row = batch_.first_row;
    place_.n_rows = batch_.n_rows;
    place_.first_k = batch_.first_k + first;
    place_.n_k = kTileK;
    load();
    const int used = store_.used_columns(place_);
    double total = 0;
    bool any = false;
    std::fill_n(change_, kTileK * kRows, 0.0f);
    for (int k = used - 1; k >= 0; --k) any = column(first, k, &total) || any;
    if (!any) return 0;
    store();
    // Columns of this tile are up to date.
    for (int j = first - kTileK; j >= 0; j -= kTileK)
      kernels().add_outer_products(batch_.inner.at(first, j), change_, kTileK,
                                   batch_.slopes + j * kRows, kRows);
    return total;
  }

 private:
  void load() {
    const int scale_k = traits(store_.g.code).scale_k;
    for (int panel = 0; panel < n_panels_; ++panel) {
      const int row = panel * kPanelRows;
      uint8_t* const lines = lines_[panel];
      store_.get_lines(place_, row, 0, lines);
      for (int k = 0; k < kTileK; ++k)
        for (int r = 0; r < kPanelRows; ++r) levels_[k][row + r] = table_[lines[line_index(r, k)]];
      for (int group = 0; group < kTileK / kGroupK; ++group) {
        StripBlock at = place_;
        at.first_k += group * kGroupK;
        if (group == 0 || scale_k == kGroupK)
          store_.get_scales(at, row, steps_[group] + row);
        else
          std::copy_n(steps_[0] + row, kPanelRows, steps_[group] + row);
      }
      for (int group = 0; group < kTileK / kGroupK; ++group) {
        int8_t multipliers[kPanelRows];
        store_.get_multipliers(place_, row, group, multipliers);
        for (int r = 0; r < kPanelRows; ++r)
          steps_[group][row + r] *= static_cast<float>(multipliers[r]);
      }
    }
  }

  void store() {
    for (int panel = 0; panel < n_panels_; ++panel) {
      const int row = panel * kPanelRows;
      const int n_rows = std::min(kPanelRows, batch_.n_rows - row);
      for (int k = 0; k < kTileK; ++k)
        for (int r = 0; r < n_rows; ++r)
          lines_[panel][line_index(r, k)] = index_of_[levels_[k][row + r]];
      store_.put_lines(place_, row, 0, lines_[panel]);
    }
  }

  bool column(int first, int k, double* total) {
    const float own = *batch_.inner.at(first + k, first + k);
    if (!(own > 0)) return false;
    const float* step = steps_[k / kGroupK];
    float* const e = batch_.errors + (first + k) * kRows;
    float* const s = batch_.slopes + (first + k) * kRows;
    float* const change = change_ + k * kRows;
    const float inverse_own = 1 / own;
    float sum = 0, moved = 0;
    for (int row = 0; row < kRows; ++row) {
      const float before = static_cast<float>(levels_[k][row]);
      const float inverse = step[row] == 0 ? 0.0f : 1.0f / step[row];
      const float after = nearest_.nearest(before + s[row] * inverse_own * inverse);
      const float d = step[row] * (after - before);
      const float fall = d * (d * own - 2 * s[row]);
      const bool better = fall < 0;
      levels_[k][row] = static_cast<int8_t>(better ? after : before);
      change[row] = better ? -d : 0.0f;
      sum += better ? fall : 0.0f;
      moved += better ? 1.0f : 0.0f;
      e[row] += change[row];
    }
    if (moved == 0) return false;
    *total += sum;
    for (int j = 0; j <= k; ++j) {
      const float h = *batch_.inner.at(first + k, first + j);
      float* to = batch_.slopes + (first + j) * kRows;
      for (int row = 0; row < kRows; ++row) to[row] += h * change[row];
    }
    return true;
  }

  const PanelStore& store_;
  const SweepBlock& batch_;
  std::span<const int8_t> table_;
  scalar::Levels nearest_{};
  int n_panels_ = 0;
  StripBlock place_{};  // where the tile is stored
  scalar::LevelIndices index_of_;
  alignas(64) RowFloats steps_[kTileK / kGroupK] = {};
  alignas(64) float change_[kTileK * kRows];  // of E
  alignas(64) int8_t levels_[kTileK][kRows] = {};
  uint8_t lines_[kPanels][kTileLineBytes];
};

}  // namespace

double ScalarRounder::improve(const SweepBlock& batch) {
  TileSweep sweep(store_, batch);
  double total = 0;
  for (int tile = batch.n_k - kTileK; tile >= 0; tile -= kTileK) total += sweep.run(tile);
  return total;
}

}  // namespace lapidary
