// Trellis codes' symbols and scales for rows of weights, by search.
//
// A row's scale is chosen first, over its scale block, by the error that a weight of a given size
// can be expected to leave; then the search of kernels/trellis_search.h finds the symbols of each
// sequence, all rows weighed by the squares of their scales; then scales are refitted to the levels
// by least squares.
#pragma once

#include <span>
#include <vector>

#include "kernels/rounding.h"

namespace lapidary {

// Searches one sequence after another; holds their scratch memory.
class TrellisSearcher {
 public:
  explicit TrellisSearcher(Code code);

  // The best scale for a row of n weights `stride` apart, as fp16 has it; 0 when all are zero.
  float scale_for(const float* x, int64_t stride, int n) const;

  // 16 rows x 16 inputs: value (row, k) at x[row * row_stride + k * k_stride]. An error of input k
  // counts root_importance[k]^2. symbols and levels [256] in the order of a panel's lines.
  void round_block(const float* x, int64_t row_stride, int64_t k_stride, const float* scales,
                   const float* root_importance, uint8_t* symbols, int8_t* levels);

  // A ring of one row: n weights, a multiple of 4, at most kTrellisMostSteps.
  void round_ring(const float* x, int n, float scale, uint8_t* symbols, int8_t* levels);

 private:
  int bits_;
  std::vector<float> expected_;  // squared error of a weight, by its size in levels' units
  std::vector<float> scratch_;
};

// One scale block of 16 rows of a panel: n inputs, a multiple of 16, of which `used` hold weights.
void round_trellis_rows(TrellisSearcher& searcher, const float* x, int64_t ldx, int n, int used,
                        RoundedRows* out);
// The same of 16 records of a row table, each row a ring of n.
void round_trellis_records(TrellisSearcher& searcher, const float* x, int64_t ldx, int n,
                           RoundedRows* out);

}  // namespace lapidary
