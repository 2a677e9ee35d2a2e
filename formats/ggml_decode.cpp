// Reading blocks: one short function per type, all from the same few pieces.
#include <cstring>

#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/ggml_blocks.h"

namespace lapidary {
namespace {

uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
float f16(const uint8_t* p) { return f16_to_float(u16(p)); }
// Value j of a row of nibbles, low ones first.
int nibble(const uint8_t* q, int j, int half) { return j < half ? q[j] & 15 : q[j - half] >> 4; }

// Q4_0, Q4_1, Q5_0, Q5_1: d [m] [fifth bits] nibbles.
void decode_legacy(GgmlType type, const uint8_t* b, float* out) {
  const bool five = type == GgmlType::kQ5_0 || type == GgmlType::kQ5_1;
  const bool minimum = type == GgmlType::kQ4_1 || type == GgmlType::kQ5_1;
  const float d = f16(b), m = minimum ? f16(b + 2) : 0.0f;
  b += minimum ? 4 : 2;
  uint32_t high = 0;
  if (five) {
    std::memcpy(&high, b, 4);
    b += 4;
  }
  const int offset = minimum ? 0 : five ? 16 : 8;
  for (int j = 0; j < 32; ++j) {
    const int q = nibble(b, j, 16) | static_cast<int>((high >> j) & 1) << 4;
    out[j] = static_cast<float>(q - offset) * d + m;
  }
}

void decode_q8_0(const uint8_t* b, float* out) {
  const float d = f16(b);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(static_cast<int8_t>(b[2 + j])) * d;
}

void decode_iq4_nl(const uint8_t* b, float* out) {
  const float d = f16(b);
  for (int j = 0; j < 32; ++j) out[j] = d * kIq4Levels[nibble(b + 2, j, 16)];
}

void decode_iq4_xs(const uint8_t* b, float* out) {
  const float d = f16(b);
  const int high = u16(b + 2);
  for (int i = 0; i < 8; ++i) {
    const int low = b[4 + i / 2] >> (4 * (i % 2)) & 15;
    const float scale = d * static_cast<float>((low | (high >> (2 * i) & 3) << 4) - 32);
    for (int j = 0; j < 32; ++j)
      out[32 * i + j] = scale * kIq4Levels[nibble(b + 8 + 16 * i, j, 16)];
  }
}

// Two bits per value, 128 values to 32 bytes: value j of a half in byte j % 32, bits 2 (j / 32).
int two_bits(const uint8_t* q, int i) {
  return q[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
}

void decode_q2_k(const uint8_t* b, float* out) {
  const float d = f16(b + 80), m = f16(b + 82);
  for (int i = 0; i < 256; ++i) {
    const int scale = b[i / 16];
    out[i] = d * static_cast<float>((scale & 15) * two_bits(b + 16, i)) -
             m * static_cast<float>(scale >> 4);
  }
}

void decode_q3_k(const uint8_t* b, float* out) {
  const uint8_t* scales = b + 96;
  const float d = f16(b + 108);
  for (int i = 0; i < 256; ++i) {
    const int s = i / 16;
    const int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
    const int scale = (low | (scales[8 + s % 4] >> (2 * (s / 4)) & 3) << 4) - 32;
    const int high = b[i % 32] >> (i / 32) & 1;
    out[i] = d * static_cast<float>(scale * (two_bits(b + 32, i) - (high ? 0 : 4)));
  }
}

// Scale and minimum j of Q4_K and Q5_K, six bits each in twelve bytes.
void scale_and_minimum(const uint8_t* s, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = s[j] & 63;
    *minimum = s[j + 4] & 63;
  } else {
    *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *minimum = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
  }
}

void decode_min_k(const uint8_t* b, bool five, float* out) {
  const float d = f16(b), m = f16(b + 2);
  const uint8_t* high = b + 16;
  const uint8_t* q = five ? b + 48 : b + 16;
  for (int j = 0; j < 8; ++j) {
    int scale, minimum;
    scale_and_minimum(b + 4, j, &scale, &minimum);
    for (int i = 0; i < 32; ++i) {
      int value = q[32 * (j / 2) + i] >> (4 * (j % 2)) & 15;
      if (five) value |= (high[i] >> j & 1) << 4;
      out[32 * j + i] = d * static_cast<float>(scale * value) - m * static_cast<float>(minimum);
    }
  }
}

void decode_q6_k(const uint8_t* b, float* out) {
  const float d = f16(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, j = i % 128;
    const int low = b[64 * half + j % 64] >> (4 * (j / 64)) & 15;
    const int q = (low | two_bits(b + 128, i) << 4) - 32;
    out[i] = d * static_cast<float>(static_cast<int8_t>(b[192 + i / 16]) * q);
  }
}

void decode_block(GgmlType type, const uint8_t* b, float* out) {
  switch (type) {
    case GgmlType::kQ8_0:
      return decode_q8_0(b, out);
    case GgmlType::kIQ4_NL:
      return decode_iq4_nl(b, out);
    case GgmlType::kIQ4_XS:
      return decode_iq4_xs(b, out);
    case GgmlType::kQ2_K:
      return decode_q2_k(b, out);
    case GgmlType::kQ3_K:
      return decode_q3_k(b, out);
    case GgmlType::kQ4_K:
      return decode_min_k(b, false, out);
    case GgmlType::kQ5_K:
      return decode_min_k(b, true, out);
    case GgmlType::kQ6_K:
      return decode_q6_k(b, out);
    default:
      return decode_legacy(type, b, out);
  }
}

}  // namespace

void decode_blocks(GgmlType type, std::span<const uint8_t> blocks, std::span<float> values) {
  switch (type) {
    case GgmlType::kF32:
      return decode_floats(Code::kF32, blocks, values);
    case GgmlType::kF16:
      return decode_floats(Code::kF16, blocks, values);
    case GgmlType::kBF16:
      return decode_floats(Code::kBF16, blocks, values);
    default:
      break;
  }
  const GgmlTraits& t = traits(type);
  const size_t n_blocks = values.size() / static_cast<size_t>(t.block_values);
  LAPIDARY_CHECK(blocks.size() == n_blocks * static_cast<size_t>(t.block_bytes));
  for (size_t i = 0; i < n_blocks; ++i)
    decode_block(type, &blocks[i * static_cast<size_t>(t.block_bytes)],
                 &values[i * static_cast<size_t>(t.block_values)]);
}

}  // namespace lapidary
