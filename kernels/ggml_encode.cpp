// The encoders, from one scale per 32 to two levels of scales per 256.
#include "kernels/ggml_encode.h"

#include <array>
#include <cstdlib>

#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/ggml_blocks.h"
#include "kernels/group_fit.h"

namespace lapidary {
namespace {

// fp16 of a scale, kept finite.
uint16_t half(float scale) { return float_to_f16(std::clamp(scale, -65504.0f, 65504.0f)); }
float inverse_of(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }

void encode_q8_0(std::span<const float> x, uint8_t* out) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  const uint16_t scale = half(largest / 127);
  const float inverse = inverse_of(f16_to_float(scale));
  std::array<int8_t, 32> q;
  for (size_t i = 0; i < 32; ++i)
    q[i] = static_cast<int8_t>(round_clamped(x[i] * inverse, -127, 127));
  pack_q8_0(scale, q, out);
}

// Levels from `low` to -low - 1, stored from 0 on: Q4_0 and Q5_0.
void encode_offset(std::span<const float> x, int low, decltype(pack_nibbles)* pack, uint8_t* out) {
  const int high = -low - 1;
  const uint16_t scale = half(fit_symmetric(x, low, high));
  const float inverse = inverse_of(f16_to_float(scale));
  std::array<uint8_t, 32> q;
  for (size_t i = 0; i < 32; ++i)
    q[i] = static_cast<uint8_t>(round_clamped(x[i] * inverse, low, high) - low);
  pack(scale, q, out);
}

void encode_iq4_xs(std::span<const float> x, uint8_t* out) {
  std::array<float, 8> scales;
  for (size_t g = 0; g < 8; ++g) scales[g] = fit_iq4(x.subspan(32 * g, 32));
  Iq4XsBlock block;
  block.scale = half(fit_symmetric(scales, -32, 31));
  const float scale = f16_to_float(block.scale), inverse = inverse_of(scale);
  for (size_t g = 0; g < 8; ++g) {
    const int group = round_clamped(scales[g] * inverse, -32, 31);
    block.scales[g] = static_cast<int8_t>(group);
    const float step = inverse_of(scale * static_cast<float>(group));
    for (size_t i = 32 * g; i < 32 * g + 32; ++i) block.q[i] = nearest_iq4(x[i] * step);
  }
  pack(block, out);
}

void encode_iq4_nl(std::span<const float> x, uint8_t* out) {
  const uint16_t stored = half(fit_iq4(x));
  const float inverse = inverse_of(f16_to_float(stored));
  std::array<uint8_t, 32> q;
  for (size_t i = 0; i < 32; ++i) q[i] = nearest_iq4(x[i] * inverse);
  pack_nibbles(stored, q, out);
}

// Q6_K and Q3_K: sixteen symmetric groups under one fp16.
template <class Block>
void encode_symmetric_k(std::span<const float> x, int low, int high, int scale_low, int scale_high,
                        uint8_t* out) {
  std::array<float, 16> scales;
  for (size_t g = 0; g < 16; ++g) scales[g] = fit_symmetric(x.subspan(16 * g, 16), low, high);
  Block block;
  block.scale = half(fit_symmetric(scales, scale_low, scale_high));
  const float scale = f16_to_float(block.scale), inverse = inverse_of(scale);
  for (size_t g = 0; g < 16; ++g) {
    const int group = round_clamped(scales[g] * inverse, scale_low, scale_high);
    block.scales[g] = static_cast<int8_t>(group);
    const float step = inverse_of(scale * static_cast<float>(group));
    for (size_t i = 16 * g; i < 16 * g + 16; ++i)
      block.q[i] = static_cast<int8_t>(round_clamped(x[i] * step, low, high));
  }
  pack(block, out);
}

// Q4_K and Q5_K: eight groups with scale and minimum, six bits each.
void encode_min_k(std::span<const float> x, int high, uint8_t* out) {
  std::array<ScaleAndMinimum, 8> fits;
  float largest_scale = 0, largest_minimum = 0;
  for (size_t g = 0; g < 8; ++g) {
    fits[g] = fit_affine(x.subspan(32 * g, 32), high);
    largest_scale = std::max(largest_scale, fits[g].scale);
    largest_minimum = std::max(largest_minimum, fits[g].minimum);
  }
  QMinKBlock block;
  block.scale = half(largest_scale / 63);
  block.minimum = half(largest_minimum / 63);
  const float scale = f16_to_float(block.scale), minimum = f16_to_float(block.minimum);
  for (size_t g = 0; g < 8; ++g) {
    const int group_scale = round_clamped(fits[g].scale * inverse_of(scale), 0, 63);
    const int group_minimum = round_clamped(fits[g].minimum * inverse_of(minimum), 0, 63);
    block.scales[g] = static_cast<uint8_t>(group_scale);
    block.minima[g] = static_cast<uint8_t>(group_minimum);
    const float step = inverse_of(scale * static_cast<float>(group_scale));
    const float low = minimum * static_cast<float>(group_minimum);
    for (size_t i = 32 * g; i < 32 * g + 32; ++i)
      block.q[i] = static_cast<uint8_t>(round_clamped((x[i] + low) * step, 0, high));
  }
  high == 15 ? pack_q4_k(block, out) : pack_q5_k(block, out);
}

void encode_block(GgmlType type, std::span<const float> x, uint8_t* out) {
  switch (type) {
    case GgmlType::kQ8_0:
      return encode_q8_0(x, out);
    case GgmlType::kQ4_0:
      return encode_offset(x, -8, pack_nibbles, out);
    case GgmlType::kQ5_0:
      return encode_offset(x, -16, pack_q5_0, out);
    case GgmlType::kIQ4_NL:
      return encode_iq4_nl(x, out);
    case GgmlType::kIQ4_XS:
      return encode_iq4_xs(x, out);
    case GgmlType::kQ6_K:
      return encode_symmetric_k<Q6KBlock>(x, -32, 31, -128, 127, out);
    case GgmlType::kQ5_K:
      return encode_min_k(x, 31, out);
    case GgmlType::kQ4_K:
      return encode_min_k(x, 15, out);
    case GgmlType::kQ3_K:
      return encode_symmetric_k<Q3KBlock>(x, -4, 3, -32, 31, out);
    default:
      LAPIDARY_CHECK(false);
  }
}

}  // namespace

bool can_encode(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
    case GgmlType::kQ8_0:
    case GgmlType::kQ6_K:
    case GgmlType::kQ5_K:
    case GgmlType::kQ4_K:
    case GgmlType::kQ4_0:
    case GgmlType::kQ5_0:
    case GgmlType::kIQ4_NL:
    case GgmlType::kIQ4_XS:
    case GgmlType::kQ3_K:
      return true;
    default:
      return false;
  }
}

void encode_blocks(GgmlType type, std::span<const float> values, std::span<uint8_t> blocks) {
  switch (type) {
    case GgmlType::kF32:
      return encode_floats(Code::kF32, values, blocks);
    case GgmlType::kF16:
      return encode_floats(Code::kF16, values, blocks);
    case GgmlType::kBF16:
      return encode_floats(Code::kBF16, values, blocks);
    default:
      break;
  }
  const GgmlTraits& t = traits(type);
  const size_t n = static_cast<size_t>(t.block_values), n_blocks = values.size() / n;
  LAPIDARY_CHECK(values.size() % n == 0 &&
                 blocks.size() == n_blocks * static_cast<size_t>(t.block_bytes));
  for (size_t i = 0; i < n_blocks; ++i)
    encode_block(type, values.subspan(i * n, n), &blocks[i * static_cast<size_t>(t.block_bytes)]);
}

}  // namespace lapidary
