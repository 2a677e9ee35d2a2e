// The encoders, from one scale per 32 to two levels of scales per 256.
#include "kernels/ggml_encode.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/ggml_blocks.h"
#include "kernels/group_rounding.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

// fp16 of a scale, kept finite.
uint16_t half(float scale) { return float_to_f16(std::clamp(scale, -65504.0f, 65504.0f)); }
float inverse_of(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }
uint8_t* bytes_of(int8_t* q) { return reinterpret_cast<uint8_t*>(q); }

void round_iq4(std::span<const float> x, float step, uint8_t* q) {
  round_group(x, 0, step, -128, 127, -128, q);
  for (size_t i = 0; i < x.size(); ++i) q[i] = kNearestIq4[q[i]];
}

// Up to kTogether blocks of floats, whose groups are fitted together: vectors take one per lane.
constexpr size_t kTogether = 16, kMostGroups = 16, kMostGroup = 32;
struct Blocks {
  const float* x;  // [n, block]
  size_t n, block;
  uint8_t* out;

  std::span<const float> values(size_t b, size_t group, size_t group_values) const {
    return {x + b * block + group * group_values, group_values};
  }
};
struct Scratch {
  std::array<float, fit_scratch_floats(kMostGroup)> columns;
  // Groups after groups; blocks after blocks where a block has one of its own.
  std::array<float, kTogether * kMostGroups> scales, minima;
  std::array<float, kTogether> block_scales;
};

ValueGroups groups_of(const float* x, int group, size_t n_groups, Scratch* scratch) {
  return adjacent_groups(x, group, static_cast<int64_t>(n_groups), scratch->columns.data());
}

void encode_q8_0(const Blocks& blocks, size_t bytes) {
  for (size_t b = 0; b < blocks.n; ++b) {
    const std::span<const float> x = blocks.values(b, 0, 32);
    const uint16_t scale = half(largest_magnitude(x) / 127);
    std::array<int8_t, 32> q;
    round_group(x, 0, inverse_of(f16_to_float(scale)), -127, 127, 0, bytes_of(q.data()));
    pack_q8_0(scale, q, blocks.out + b * bytes);
  }
}

// Levels from `low` to -low - 1, stored from 0 on: Q4_0 and Q5_0.
void encode_offset(const Blocks& blocks, int low, size_t bytes, decltype(pack_nibbles)* pack,
                   Scratch* scratch) {
  const int high = -low - 1;
  float* scales = scratch->scales.data();
  kernels().fit_symmetric(groups_of(blocks.x, 32, blocks.n, scratch), low, high, scales);
  for (size_t b = 0; b < blocks.n; ++b) {
    const uint16_t scale = half(scales[b]);
    std::array<uint8_t, 32> q;
    round_group(blocks.values(b, 0, 32), 0, inverse_of(f16_to_float(scale)), low, high, low,
                q.data());
    pack(scale, q, blocks.out + b * bytes);
  }
}

void encode_iq4_nl(const Blocks& blocks, size_t bytes, Scratch* scratch) {
  float* scales = scratch->scales.data();
  kernels().fit_iq4(groups_of(blocks.x, 32, blocks.n, scratch), scales);
  for (size_t b = 0; b < blocks.n; ++b) {
    const uint16_t scale = half(scales[b]);
    std::array<uint8_t, 32> q;
    round_iq4(blocks.values(b, 0, 32), inverse_of(f16_to_float(scale)), q.data());
    pack_nibbles(scale, q, blocks.out + b * bytes);
  }
}

// Integers of the scales of groups: each about `scale` times its own.
template <class Block>
void round_group_scales(const float* scales, size_t n, int low, int high, float scale,
                        Block* block) {
  const float inverse = inverse_of(scale);
  for (size_t g = 0; g < n; ++g)
    block->scales[g] = static_cast<std::remove_reference_t<decltype(block->scales[g])>>(
        round_clamped(scales[g] * inverse, low, high));
}

void encode_iq4_xs(const Blocks& blocks, size_t bytes, Scratch* scratch) {
  float* scales = scratch->scales.data();
  float* block_scales = scratch->block_scales.data();
  kernels().fit_iq4(groups_of(blocks.x, 32, 8 * blocks.n, scratch), scales);
  kernels().fit_symmetric(groups_of(scales, 8, blocks.n, scratch), -32, 31, block_scales);
  for (size_t b = 0; b < blocks.n; ++b) {
    Iq4XsBlock block;
    block.scale = half(block_scales[b]);
    const float scale = f16_to_float(block.scale);
    round_group_scales(scales + 8 * b, 8, -32, 31, scale, &block);
    for (size_t g = 0; g < 8; ++g)
      round_iq4(blocks.values(b, g, 32), inverse_of(scale * static_cast<float>(block.scales[g])),
                block.q + 32 * g);
    pack(block, blocks.out + b * bytes);
  }
}

// Q6_K and Q3_K: sixteen symmetric groups under one fp16.
template <class Block>
void encode_symmetric_k(const Blocks& blocks, int low, int high, int scale_low, int scale_high,
                        size_t bytes, Scratch* scratch) {
  float* scales = scratch->scales.data();
  float* block_scales = scratch->block_scales.data();
  kernels().fit_symmetric(groups_of(blocks.x, 16, 16 * blocks.n, scratch), low, high, scales);
  kernels().fit_symmetric(groups_of(scales, 16, blocks.n, scratch), scale_low, scale_high,
                          block_scales);
  for (size_t b = 0; b < blocks.n; ++b) {
    Block block;
    block.scale = half(block_scales[b]);
    const float scale = f16_to_float(block.scale);
    round_group_scales(scales + 16 * b, 16, scale_low, scale_high, scale, &block);
    for (size_t g = 0; g < 16; ++g)
      round_group(blocks.values(b, g, 16), 0,
                  inverse_of(scale * static_cast<float>(block.scales[g])), low, high, 0,
                  bytes_of(block.q + 16 * g));
    pack(block, blocks.out + b * bytes);
  }
}

// Q4_K and Q5_K: eight groups with scale and minimum, six bits each.
void encode_min_k(const Blocks& blocks, int high, size_t bytes, Scratch* scratch) {
  float* scales = scratch->scales.data();
  float* minima = scratch->minima.data();
  kernels().fit_affine(groups_of(blocks.x, 32, 8 * blocks.n, scratch), high, scales, minima);
  for (size_t b = 0; b < blocks.n; ++b, scales += 8, minima += 8) {
    float largest_scale = 0, largest_minimum = 0;
    for (size_t g = 0; g < 8; ++g) {
      largest_scale = std::max(largest_scale, scales[g]);
      largest_minimum = std::max(largest_minimum, minima[g]);
    }
    QMinKBlock block;
    block.scale = half(largest_scale / 63);
    block.minimum = half(largest_minimum / 63);
    const float scale = f16_to_float(block.scale), minimum = f16_to_float(block.minimum);
    round_group_scales(scales, 8, 0, 63, scale, &block);
    for (size_t g = 0; g < 8; ++g) {
      const int group_minimum = round_clamped(minima[g] * inverse_of(minimum), 0, 63);
      block.minima[g] = static_cast<uint8_t>(group_minimum);
      const float step = inverse_of(scale * static_cast<float>(block.scales[g]));
      const float low = minimum * static_cast<float>(group_minimum);
      round_group(blocks.values(b, g, 32), low, step, 0, high, 0, block.q + 32 * g);
    }
    uint8_t* out = blocks.out + b * bytes;
    high == 15 ? pack_q4_k(block, out) : pack_q5_k(block, out);
  }
}

void encode_together(GgmlType type, const Blocks& blocks, size_t bytes, Scratch* scratch) {
  switch (type) {
    case GgmlType::kQ8_0:
      return encode_q8_0(blocks, bytes);
    case GgmlType::kQ4_0:
      return encode_offset(blocks, -8, bytes, pack_nibbles, scratch);
    case GgmlType::kQ5_0:
      return encode_offset(blocks, -16, bytes, pack_q5_0, scratch);
    case GgmlType::kIQ4_NL:
      return encode_iq4_nl(blocks, bytes, scratch);
    case GgmlType::kIQ4_XS:
      return encode_iq4_xs(blocks, bytes, scratch);
    case GgmlType::kQ6_K:
      return encode_symmetric_k<Q6KBlock>(blocks, -32, 31, -128, 127, bytes, scratch);
    case GgmlType::kQ5_K:
      return encode_min_k(blocks, 31, bytes, scratch);
    case GgmlType::kQ4_K:
      return encode_min_k(blocks, 15, bytes, scratch);
    case GgmlType::kQ3_K:
      return encode_symmetric_k<Q3KBlock>(blocks, -4, 3, -32, 31, bytes, scratch);
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
  const size_t bytes = static_cast<size_t>(t.block_bytes);
  LAPIDARY_CHECK(values.size() % n == 0 && blocks.size() == n_blocks * bytes);
  Scratch scratch;
  for (size_t b = 0; b < n_blocks; b += kTogether)
    encode_together(type,
                    {&values[b * n], std::min(kTogether, n_blocks - b), n, &blocks[b * bytes]},
                    bytes, &scratch);
}

}  // namespace lapidary
