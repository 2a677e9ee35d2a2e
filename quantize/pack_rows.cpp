// The rounding of whole rows: blocks are searched one by one, integers packed by formats/.
#include "quantize/pack_rows.h"

#include <algorithm>
#include <cmath>

#include "kernels/reference_rotation.h"
#include "quantize/rounding.h"

namespace lapidary {
namespace {

double squares(std::span<const float> values) {
  double total = 0;
  for (const float value : values) total += double{value} * value;
  return total;
}

bool within(std::span<const float> values, float limit) {
  for (const float value : values)
    if (!(std::fabs(value) <= limit)) return false;
  return true;
}

void rotate_row(std::span<float> row) {
  for (size_t first = 0; first < row.size(); first += kTileK) {
    reference::apply_rotation_signs(row.data() + first);
    reference::walsh_hadamard_64(row.data() + first);
  }
}

// Squared error that reaches logical weights, from differences in rotated space. Whole blocks keep
// their norm. In a ragged last block a part of the error falls on padding, where inputs are zero:
// it is rotated back, up to signs.
double error_of(std::span<float> difference, bool rotated, int64_t k) {
  const size_t whole = static_cast<size_t>(k / kTileK * kTileK), rest = k - whole;
  if (rest == 0 || !rotated) return squares(difference.first(static_cast<size_t>(k)));
  const std::span<float> last = difference.subspan(whole, kTileK);
  reference::walsh_hadamard_64(last.data());
  return squares(difference.first(whole)) + squares(last.first(rest));
}

}  // namespace

RoundingLoss pack_panel_rows(const PackedGeometry& g, bool rotated, int n_rows,
                             std::span<float> rows, std::span<uint8_t> codes,
                             std::span<uint8_t> meta) {
  const int64_t scale_k = traits(g.code).scale_k;
  const bool two_level = traits(g.code).multiplier_bits > 0;
  PanelIntegers panel(g);
  std::vector<float> values(static_cast<size_t>(g.padded_k));
  RoundingLoss loss;
  for (int r = 0; r < n_rows; ++r) {
    const std::span<float> row = rows.subspan(r * g.padded_k, g.padded_k);
    loss.energy += squares(row);
    if (rotated) rotate_row(row);
    if (!within(row, largest_weight(g.code))) {
      loss.fits = false;
      continue;
    }
    // Without rotation nothing beyond k is a weight; with it, whole blocks of 64 are.
    const int64_t used_k = rotated ? g.padded_k : g.k;
    for (int64_t block = 0; block < g.n_scale_blocks; ++block) {
      const int64_t first = block * scale_k, n = std::min(scale_k, used_k - first);
      if (n <= 0) break;
      RoundedBlock out;
      out.indices = std::span(panel.indices).subspan(r * g.padded_k + first, n);
      out.values = std::span(values).subspan(first, n);
      if (two_level)
        out.multipliers =
            std::span(panel.multipliers)
                .subspan(r * g.n_groups + first / kGroupK, (n + kGroupK - 1) / kGroupK);
      round_block(g.code, row.subspan(first, n), &out);
      panel.scales[r * g.n_scale_blocks + block] = out.scale;
    }
    for (int64_t i = 0; i < used_k; ++i) values[i] = row[i] - values[i];
    loss.error += error_of(values, rotated, g.k);
  }
  pack_panel(g, panel, codes, meta);
  return loss;
}

RoundingLoss pack_table_row(const RowTableGeometry& g, std::span<const float> row,
                            std::span<uint8_t> out) {
  const int64_t scale_k = traits(g.code).scale_k;
  const bool two_level = traits(g.code).multiplier_bits > 0 && g.n_groups > 1;
  RecordIntegers record;
  record.indices.resize(static_cast<size_t>(g.width));
  record.multipliers.assign(static_cast<size_t>(g.n_groups), 1);
  record.scales.resize(static_cast<size_t>(g.n_scales));
  std::vector<float> values(static_cast<size_t>(g.width));
  RoundingLoss loss;
  for (int64_t layer = 0; layer < g.n_layers; ++layer) {
    const std::span<const float> x = row.subspan(layer * g.width, g.width);
    loss.energy += squares(x);
    if (!within(x, largest_weight(g.code))) {
      loss.fits = false;
      continue;
    }
    for (int64_t block = 0; block < g.n_scales; ++block) {
      const int64_t first = block * scale_k, n = std::min(scale_k, g.width - first);
      RoundedBlock rounded;
      rounded.indices = std::span(record.indices).subspan(first, n);
      rounded.values = std::span(values).subspan(first, n);
      if (two_level)
        rounded.multipliers =
            std::span(record.multipliers).subspan(first / kGroupK, (n + kGroupK - 1) / kGroupK);
      round_block(g.code, x.subspan(first, n), &rounded);
      record.scales[block] = rounded.scale;
    }
    for (int64_t i = 0; i < g.width; ++i) values[i] = x[i] - values[i];
    loss.error += squares(values);
    pack_record(g, record, out.subspan(layer * g.record_bytes, g.record_bytes));
  }
  return loss;
}

}  // namespace lapidary
