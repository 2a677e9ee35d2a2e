// Scales first, rounded to bf16, then the integers nearest under them.
#include "export/integer_groups.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/dtype.h"
#include "formats/error.h"
#include "kernels/group_rounding.h"
#include "kernels/kernels.h"

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

ValueGroups groups_of(size_t group, std::span<const float> values, std::vector<float>* scratch) {
  LAPIDARY_CHECK(values.size() % group == 0);
  const int n = static_cast<int>(group);
  scratch->resize(static_cast<size_t>(fit_scratch_floats(n)));
  return adjacent_groups(values.data(), n, static_cast<int64_t>(values.size() / group),
                         scratch->data());
}

void put_bf16(uint16_t value, size_t i, std::span<uint8_t> out) {
  out[2 * i] = static_cast<uint8_t>(value);
  out[2 * i + 1] = static_cast<uint8_t>(value >> 8);
}

}  // namespace

void round_symmetric(int bits, size_t group, std::span<const float> values,
                     std::span<uint8_t> indices, std::span<uint8_t> scales) {
  const int half = 1 << (bits - 1);
  LAPIDARY_CHECK(indices.size() == values.size() && scales.size() == 2 * (values.size() / group));
  std::vector<float> fitted(values.size() / group), scratch;
  if (bits == 4)
    kernels().fit_symmetric(groups_of(group, values, &scratch), -half, half - 1, fitted.data());
  for (size_t g = 0; g < fitted.size(); ++g) {
    const std::span<const float> x = values.subspan(g * group, group);
    if (bits != 4) fitted[g] = largest_magnitude(x) / static_cast<float>(half - 1);
    const uint16_t stored = finite_bf16(fitted[g]);
    const float inverse = inverse_of(bf16_to_float(stored));
    round_group(x, 0, inverse, -half, half - 1, -half, &indices[g * group]);
    put_bf16(stored, g, scales);
  }
}

void round_affine(int bits, size_t group, std::span<const float> values, std::span<uint8_t> indices,
                  std::span<uint8_t> scales, std::span<uint8_t> biases) {
  const int high = (1 << bits) - 1;
  LAPIDARY_CHECK(indices.size() == values.size() && scales.size() == 2 * (values.size() / group) &&
                 biases.size() == scales.size());
  std::vector<float> fitted(values.size() / group), minima(fitted.size()), scratch;
  kernels().fit_affine(groups_of(group, values, &scratch), high, fitted.data(), minima.data());
  for (size_t g = 0; g < fitted.size(); ++g) {
    const uint16_t scale = finite_bf16(fitted[g]), stored_bias = finite_bf16(-minima[g]);
    const float inverse = inverse_of(bf16_to_float(scale)), bias = bf16_to_float(stored_bias);
    round_group(values.subspan(g * group, group), -bias, inverse, 0, high, 0, &indices[g * group]);
    put_bf16(scale, g, scales);
    put_bf16(stored_bias, g, biases);
  }
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
