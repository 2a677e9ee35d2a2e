// Rows to packed bytes: one panel, or one row of a row table, at a time. No files, no threads.
#pragma once

#include <span>
#include <vector>

#include "formats/packed_matrix.h"

namespace lapidary {

// Squared norms over the logical weights, in float64.
struct RoundingLoss {
  double error = 0;   // ||W - W'||^2
  double energy = 0;  // ||W||^2
  bool fits = true;   // false: a weight is too large for the code's 16-bit scales
  void add(const RoundingLoss& other) {
    error += other.error;
    energy += other.energy;
    fits = fits && other.fits;
  }
};

// `rows` [n_rows][padded_k], n_rows <= 16, zero beyond k; overwritten. Rotates if asked, rounds,
// packs.
RoundingLoss pack_panel_rows(const PackedGeometry& g, bool rotated, int n_rows,
                             std::span<float> rows, std::span<uint8_t> codes,
                             std::span<uint8_t> meta);

// `row` [n_layers * width]; out [row_bytes].
RoundingLoss pack_table_row(const RowTableGeometry& g, std::span<const float> row,
                            std::span<uint8_t> out);

}  // namespace lapidary
