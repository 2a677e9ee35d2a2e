// Groups of weights as integers under 16-bit scales, the way vLLM and MLX store them.
//
// A weight is scale * (index - 2^(bits - 1)), or scale * index + bias. Indices are packed low bits
// first: two of 4 bits per byte, one of 8. Scales and biases are bf16, and integers are chosen for
// the rounded ones.
#pragma once

#include <cstdint>
#include <span>

namespace lapidary {

// bits 4: the scale of least squared error; bits 8: the one that just holds the largest value.
// Returns the scale. REQUIRES: bits 4 or 8, a multiple of 8 finite values.
uint16_t round_symmetric(int bits, std::span<const float> values, std::span<uint8_t> indices);

struct ScaleAndBias {
  uint16_t scale, bias;
};
ScaleAndBias round_affine(int bits, std::span<const float> values, std::span<uint8_t> indices);

// REQUIRES: 8 * packed.size() == bits * indices.size().
void pack_indices(int bits, std::span<const uint8_t> indices, std::span<uint8_t> packed);

}  // namespace lapidary
