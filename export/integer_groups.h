// Groups of weights as integers under 16-bit scales, the way vLLM and MLX store them.
//
// A weight is scale * (index - 2^(bits - 1)), or scale * index + bias. Indices are packed low bits
// first: two of 4 bits per byte, one of 8. Scales and biases are bf16, and integers are chosen for
// the rounded ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lapidary {

// `values` are groups of `group`, one after the other. Each gets a scale (and a bias): two bytes,
// low one first.
// bits 4: the scale of least squared error; bits 8: the one that just holds the largest value.
// REQUIRES: bits 4 or 8, whole groups of a multiple of 8 finite values.
void round_symmetric(int bits, size_t group, std::span<const float> values,
                     std::span<uint8_t> indices, std::span<uint8_t> scales);
void round_affine(int bits, size_t group, std::span<const float> values, std::span<uint8_t> indices,
                  std::span<uint8_t> scales, std::span<uint8_t> biases);

// REQUIRES: 8 * packed.size() == bits * indices.size().
void pack_indices(int bits, std::span<const uint8_t> indices, std::span<uint8_t> packed);

}  // namespace lapidary
