// The choice of integers: scale, multipliers and indices of scale blocks, by a search without
// calibration. All weights count alike, which on trained and on QAT models is safer than weighting
// by magnitude.
//
//   one-level codes   scales around the one that just reaches the largest weight are tried, each in
//                     16-bit precision; the best is refitted by least squares.
//   two-level codes   every group of 32 first finds its free step; then block scales are tried for
//                     which the groups pick their best multipliers; the winner is refitted.
//
// The rule is written down in reference_rounding.cpp, for one row. Vector files follow it for 16
// rows at once, one row per lane; the arithmetic is element-wise IEEE and sums have a fixed order,
// so that every table chooses the same integers. Nothing here knows a file or a layout but the
// panel's lines.
#pragma once

#include <cstdint>
#include <span>

#include "formats/packed_matrix.h"

namespace lapidary {

inline constexpr int kMostBlockK = 512;  // the longest scale block of any code
inline constexpr int kMostGroups = kMostBlockK / kGroupK;

// Steps tried relative to the one whose outermost level is the extreme weight: below 1 clips.
// Gaussian blocks of 32 to 128 have their optimum between 0.75 (3 bits) and 1 (8 bits).
constexpr float kClips[] = {1.0f,  0.98f, 0.95f, 0.92f, 0.89f, 0.86f, 0.83f,
                            0.80f, 0.77f, 0.74f, 0.70f, 0.66f, 1.03f, 1.07f};
// Block scales tried: the largest free step gets the multiplier largest / ratio.
constexpr float kScaleRatios[] = {1.0f,  0.94f, 1.06f, 1.13f, 1.21f,
                                  1.30f, 1.42f, 1.56f, 1.75f, 2.0f};
constexpr int kRefits = 3;
constexpr float kLargestF16 = 65504.0f;

struct RoundedBlock {
  std::span<uint8_t> indices;     // [n]
  std::span<int8_t> multipliers;  // [ceil(n / 32)]; empty: the code stores none here, all are 1
  std::span<float> values;        // [n], what a reader will see
  uint16_t scale = 0;             // fp16
  float error = 0, energy = 0;    // squared: of the rounding, of x
};

// x: the weights of one scale block of one row, n <= the code's scale_k. REQUIRES: a packed code,
// finite x, |x| <= largest_weight(code). No kernel: the definition that kernels are held against.
void round_block(Code code, std::span<const float> x, RoundedBlock* out);

// The largest magnitude that fp16 scales let a code store.
float largest_weight(Code code);

// What the search has to know of a code.
struct RoundingRule {
  float low, high;       // outermost levels
  int most;              // largest multiplier
  bool has_multipliers;  // false: all are 1
  bool is_w3;            // levels are not one apart
  bool lattices;         // codes with a scale per 32 hold lattices that shall stay what they are
};
RoundingRule rounding_rule(Code code, bool has_multipliers);

// The same for one scale block of 16 rows: what KernelTable::round_rows fills.
struct RoundedRows {
  // [ceil(n / 4)][16][4], the lines of a panel; indices beyond n are unspecified.
  uint8_t* indices = nullptr;
  alignas(64) float errors[kPanelRows], energies[kPanelRows];
  int8_t multipliers[kMostGroups][kPanelRows];  // only of groups below n; not if there are none
  uint16_t scales[kPanelRows];
};

}  // namespace lapidary
