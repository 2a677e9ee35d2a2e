// Floats to GGUF blocks: which scales and integers to store.
//
// Each group's scale is searched for the smallest squared error instead of taken from the largest
// value. Results depend only on the values of the block.
#pragma once

#include <cstdint>
#include <span>

#include "formats/ggml_type.h"

namespace lapidary {

// Whole blocks. REQUIRES: a type for which can_encode(), finite values and fitting sizes.
void encode_blocks(GgmlType type, std::span<const float> values, std::span<uint8_t> blocks);
bool can_encode(GgmlType type);

}  // namespace lapidary
