// Arrays of the three float codes: to float32, back with one rounding, and the search for NaN.
#pragma once

#include <cstdint>
#include <span>

#include "formats/code.h"

namespace lapidary {

// Little-endian values of a float code. REQUIRES: raw.size() == values.size() * bits / 8.
void decode_floats(Code code, std::span<const uint8_t> raw, std::span<float> values);
// Rounds to nearest even. Same sizes.
void encode_floats(Code code, std::span<const float> values, std::span<uint8_t> raw);
// True when any value is NaN or infinite.
bool has_nonfinite(Code code, std::span<const uint8_t> raw);

}  // namespace lapidary
