// The choice of integers: scale, multipliers and indices for one scale block of one row.
//
// Plain rounding with a search, no calibration: all weights count alike, which on trained and on
// QAT models is safer than weighting by magnitude.
//   one-level codes   scales around the one that just reaches the largest weight are tried, each in
//                     16-bit precision; the best is refitted by least squares.
//   two-level codes   every group of 32 first finds its free step; then block scales are tried for
//                     which the groups pick their best multipliers; the winner is refitted.
// The arithmetic is element-wise IEEE in a fixed order: the same integers on every machine.
// It knows no layout and no file: see quantize.cpp for the loop over a tensor.
#pragma once

#include <cstdint>
#include <span>

#include "formats/code.h"

namespace lapidary {

struct RoundedBlock {
  std::span<uint8_t> indices;     // [n]
  std::span<int8_t> multipliers;  // [ceil(n / 32)]; empty: the code stores none here, all are 1
  std::span<float> values;        // [n], what a reader will see
  uint16_t scale = 0;             // fp16
};

// x: the weights of one scale block, n <= the code's scale_k. REQUIRES: a packed code, finite x,
// |x| <= largest_weight(code).
void round_block(Code code, std::span<const float> x, RoundedBlock* out);

// The largest magnitude that fp16 scales let a code store.
float largest_weight(Code code);

}  // namespace lapidary
