// Scales first, rounded to bf16, then the integers nearest under them.
#include "export/integer_groups.h"

#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "formats/error.h"
#include "kernels/group_fit.h"

namespace lapidary {
namespace {

// The bf16 nearest to a float, kept finite.
uint16_t finite_bf16(float value) {
  constexpr float kLargest = 3.3895314e38f;  // of bf16
  return float_to_bf16(std::clamp(value, -kLargest, kLargest));
}

float inverse_of(float scale) {
  const float inverse = 1.0f / scale;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

}  // namespace

uint16_t round_symmetric(int bits, std::span<const float> values, std::span<uint8_t> indices) {
  const int half = 1 << (bits - 1);
  float scale = std::abs(largest_by_magnitude(values)) / static_cast<float>(half - 1);
  if (bits == 4) scale = fit_symmetric(values, -half, half - 1);
  const uint16_t stored = finite_bf16(scale);
  const float inverse = inverse_of(bf16_to_float(stored));
  for (size_t i = 0; i < values.size(); ++i)
    indices[i] = static_cast<uint8_t>(round_clamped(values[i] * inverse, -half, half - 1) + half);
  return stored;
}

ScaleAndBias round_affine(int bits, std::span<const float> values, std::span<uint8_t> indices) {
  const int high = (1 << bits) - 1;
  const ScaleAndMinimum fit = fit_affine(values, high);
  const ScaleAndBias stored{finite_bf16(fit.scale), finite_bf16(-fit.minimum)};
  const float inverse = inverse_of(bf16_to_float(stored.scale));
  const float bias = bf16_to_float(stored.bias);
  for (size_t i = 0; i < values.size(); ++i)
    indices[i] = static_cast<uint8_t>(round_clamped((values[i] - bias) * inverse, 0, high));
  return stored;
}

void pack_indices(int bits, std::span<const uint8_t> indices, std::span<uint8_t> packed) {
  LAPIDARY_CHECK(8 * packed.size() == static_cast<size_t>(bits) * indices.size());
  if (bits == 8) {
    std::copy(indices.begin(), indices.end(), packed.begin());
    return;
  }
  LAPIDARY_CHECK(bits == 4);
  for (size_t i = 0; i < packed.size(); ++i)
    packed[i] = static_cast<uint8_t>(indices[2 * i] | indices[2 * i + 1] << 4);
}

}  // namespace lapidary
