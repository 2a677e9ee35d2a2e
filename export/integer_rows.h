// Packed weights as rows of integers with one scale per 32 inputs, whatever their layout.
//
// What formats of other runtimes can take over without rounding: w4x, w8x and w8 that are not
// rotated. Everything else has two levels of scales or another basis.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "formats/lap.h"

namespace lapidary {

struct IntegerRow {
  static constexpr int kGroup = 32;
  std::vector<uint8_t> indices;  // [k], of levels(code): the integer plus 2^(bits - 1)
  std::vector<uint16_t> scales;  // [k / 32], as stored
};

// Can the tensor be read this way? Its rows (its records, in a table) are then multiples of 32.
bool has_integer_rows(const LapTensor& tensor);

// Calls f(row number, row) for rows [first, first + count) of the tensor seen as [rows, k].
// REQUIRES: has_integer_rows().
void for_integer_rows(const LapReader& model, const LapTensor& tensor, int64_t first, int64_t count,
                      const std::function<void(int64_t, const IntegerRow&)>& f);

}  // namespace lapidary
