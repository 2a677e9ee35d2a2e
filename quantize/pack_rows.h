// Rows to packed bytes: one panel, or up to 16 records of a row table, at a time. No files, no
// threads.
#pragma once

#include <cstdint>
#include <span>

#include "formats/packed_matrix.h"

namespace lapidary {

// Rows of float weights one after another, of a float code. Does not own.
struct FloatRows {
  Code code;
  const uint8_t* bytes;
  int64_t k;  // values per row
  // Values [first, first + n) of a row as float32.
  void read(int64_t row, int64_t first, int64_t n, float* out) const;
};

// Squared norms over the logical weights, of float32 sums over scale blocks.
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

// Rows [first, first + n_rows) become one panel: rotated if asked, rounded, packed. REQUIRES:
// n_rows <= 16, rows.k == g.k, spans as long as one panel's codes and meta.
RoundingLoss pack_panel_rows(const PackedGeometry& g, bool rotated, const FloatRows& rows,
                             int64_t first, int n_rows, std::span<uint8_t> codes,
                             std::span<uint8_t> meta);

// Records [first, first + count) of a row table, each a row of `records`. REQUIRES: count <= 16,
// records.k == g.width, out [count * record_bytes].
RoundingLoss pack_table_records(const RowTableGeometry& g, const FloatRows& records, int64_t first,
                                int count, std::span<uint8_t> out);

}  // namespace lapidary
