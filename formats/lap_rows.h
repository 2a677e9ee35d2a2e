// Rows of a stored tensor as float32, whatever its code and layout; private to formats/.
#pragma once

#include <cstdint>
#include <span>

#include "formats/file.h"
#include "formats/lap.h"

namespace lapidary {

// Rows [first, first + count) of the tensor seen as [rows, k], read with pread, rotation undone.
// Throws kBadData naming the tensor for NaN or infinity. REQUIRES: a tensor that check_tensor
// passed.
void read_lap_rows(const ReadFile& file, const LapTensor& tensor, int64_t first, int64_t count,
                   std::span<float> out);

// Puts the inputs of a rotated row back where they were: W = W' H D / 8 per block of 64, the
// inverse of x' = H D x / 8. In place; row.size() is a multiple of 64.
void undo_rotation(std::span<float> row);

}  // namespace lapidary
