// Packed weights whose integers a GGUF block can hold as they are.
//
// w8x and w8 (int8 levels under fp16 scales of 32 or more inputs) are Q8_0, w4x is Q4_0, when the
// tensor is not rotated and its scales are (or fit) fp16. Such tensors are copied integer by
// integer instead of being rounded again.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "formats/ggml_type.h"
#include "formats/lap.h"

namespace lapidary {

// The type that holds the tensor without loss; nothing: none does. Reads the scales where they are
// bf16, since some have no fp16.
std::optional<GgmlType> exact_type(const LapReader& model, const LapTensor& tensor);

// Rows [first, first + count) of the tensor seen as [rows, k], as blocks of exact_type().
void copy_exact_rows(const LapReader& model, const LapTensor& tensor, int64_t first, int64_t count,
                     std::span<uint8_t> blocks);

}  // namespace lapidary
