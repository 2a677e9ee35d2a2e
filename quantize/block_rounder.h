// What a code brings so that its matrices can be rounded with error feedback.
//
// Error feedback (quantize/ldlq.h) walks a matrix from its last column to its first, 64 rows at a
// time, and hands out blocks of columns whose targets already make up for the errors of all columns
// behind them. A code says how many columns it must see together and turns targets into what its
// readers will see: scalar codes a scale block, with feedback from column to column inside
// (quantize/scalar_rounder.h); a code of vectors a tile, without.
#pragma once

#include <cstdint>
#include <span>

#include "formats/packed_matrix.h"

namespace lapidary {

inline constexpr int kStripRows = 64;  // four panels of 16 rows, side by side in memory
inline constexpr int kBatchK = 512;    // columns between two long feedback sums
inline constexpr int kFeedbackTile = 64;

// The unit lower triangular L among a batch's columns, and what lies behind it.
struct FeedbackView {
  const float* tiles = nullptr;  // [batch columns / 64][n_rows][64]; row 0 is the batch's first k
  int64_t n_rows = 0;
  // L[k][j .. ] for k and j counted from the batch's first column: valid up to the end of j's 64.
  const float* at(int64_t k, int64_t j) const {
    return tiles + (j / kFeedbackTile * n_rows + k) * kFeedbackTile + j % kFeedbackTile;
  }
};

// Columns [first_k, first_k + n_k) of 64 rows; value (k, row) of an array lies at k * 64 + row.
// Rows beyond the matrix have weights and targets of zero, and nobody reads them.
struct StripBlock {
  int64_t first_row;        // of the matrix; a multiple of 64
  int n_rows;               // of the matrix among the 64
  int64_t first_k;          // a multiple of the rounder's block_k
  int n_k;                  // block_k, or less at the matrix's end; a multiple of 16
  const float* weights;     // [n_k][64] what shall be stored
  float* targets;           // [n_k][64] the same, with the feedback of all columns behind n_k
  float* values;            // [n_k][64] out: what a reader of the stored code will see
  const float* importance;  // [n_k] D: what the square of a target's rounding costs
  FeedbackView feedback;    // L among the batch's columns, in it
  int64_t k_in_batch;       // first_k is this column of the batch
};

// Columns [first_k, first_k + n_k) of 64 rows that are stored already, to be chosen anew while all
// others stay; value (k, row) of an array lies at k * 64 + row.
struct SweepBlock {
  int64_t first_row;  // of the matrix; a multiple of 64
  int n_rows;         // of the matrix among the 64
  int64_t first_k;
  int n_k;
  float* errors;       // [n_k][64] E = W - W'; what is stored anew changes it
  float* slopes;       // [n_k][64] E H, kept up to date with E
  FeedbackView inner;  // H among the block's columns: row k, column j of it at(k, j)
};

// Where a rounder stores: the panels of rows [first_row, ...) in the caller's memory, meta zero at
// first.
struct PanelStore {
  PackedGeometry g;
  bool rotated = false;
  int64_t first_row = 0;
  std::span<uint8_t> codes, meta;

  // Columns of the block that hold weights; the rest are padding.
  int used_columns(const StripBlock& block) const;
  // One tile's lines (kernels/pack_lines.h) of the panel whose first row is `row` of the block;
  // `k`: of the block.
  void put_lines(const StripBlock& block, int row, int k, const uint8_t* lines) const;
  void get_lines(const StripBlock& block, int row, int k, uint8_t* lines) const;
  // The block's scales of that panel, [16], and the panel's meta for what else lies there.
  void put_scales(const StripBlock& block, int row, const float* scales) const;
  void get_scales(const StripBlock& block, int row, float* scales) const;
  // The signed multipliers of one group of the block, [16]; 1 in one-level codes.
  void get_multipliers(const StripBlock& block, int row, int group, int8_t* multipliers) const;
  uint8_t* meta_of(const StripBlock& block, int row) const;
};

class BlockRounder {
 public:
  virtual ~BlockRounder() = default;
  // Columns handed out together: 16, 32, 64, 128, 256 or 512.
  virtual int block_k() const = 0;
  // Chooses and stores the codes of a block and writes `values`. May change `targets`. Called from
  // several threads, for one strip by one thread at a time, in descending first_k.
  virtual void round(const StripBlock& block) = 0;
  // Stores other codes of a batch's columns where tr(E H E^T) falls by it, and gives that change.
  // Threads as round(). REQUIRES: improves().
  virtual double improve(const SweepBlock& /*batch*/) { return 0; }
  virtual bool improves() const { return false; }
};

}  // namespace lapidary
