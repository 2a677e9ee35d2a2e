// Writing blocks: the inverse of ggml_decode.cpp for the types that export offers.
//
// Long loops fill arrays of their own, which the compiler knows not to overlap their input.
#include <cstring>

#include "formats/ggml_blocks.h"

namespace lapidary {
namespace {

void put_u16(uint16_t value, uint8_t* out) {
  out[0] = static_cast<uint8_t>(value);
  out[1] = static_cast<uint8_t>(value >> 8);
}

// Two bits of the values j, j + 32, j + 64 and j + 96 of 128, see two_bits() in ggml_decode.cpp.
uint8_t two_bits(int a, int b, int c, int d) {
  return static_cast<uint8_t>(a | b << 2 | c << 4 | d << 6);
}

// The head that Q4_K and Q5_K share: scale, minimum, then 8 + 8 six-bit numbers in twelve bytes.
void put_min_head(const QMinKBlock& block, uint8_t* out) {
  put_u16(block.scale, out);
  put_u16(block.minimum, out + 2);
  uint8_t* s = out + 4;
  for (int j = 0; j < 4; ++j) {
    const int high_scale = block.scales[j + 4], high_minimum = block.minima[j + 4];
    s[j] = static_cast<uint8_t>(block.scales[j] | (high_scale >> 4) << 6);
    s[j + 4] = static_cast<uint8_t>(block.minima[j] | (high_minimum >> 4) << 6);
    s[j + 8] = static_cast<uint8_t>((high_scale & 15) | (high_minimum & 15) << 4);
  }
}

void put_min_nibbles(const QMinKBlock& block, uint8_t* out) {
  for (int pair = 0; pair < 4; ++pair)
    for (int i = 0; i < 32; ++i)
      out[32 * pair + i] = static_cast<uint8_t>((block.q[64 * pair + i] & 15) |
                                                (block.q[64 * pair + 32 + i] & 15) << 4);
}

}  // namespace

void pack_q8_0(uint16_t scale, std::span<const int8_t, 32> q, uint8_t* out) {
  put_u16(scale, out);
  std::memcpy(out + 2, q.data(), q.size());
}

void pack_nibbles(uint16_t scale, std::span<const uint8_t, 32> q, uint8_t* out) {
  put_u16(scale, out);
  for (int j = 0; j < 16; ++j) out[2 + j] = static_cast<uint8_t>(q[j] | q[j + 16] << 4);
}

void pack_q5_0(uint16_t scale, std::span<const uint8_t, 32> q, uint8_t* out) {
  put_u16(scale, out);
  std::memset(out + 2, 0, 4);
  for (int j = 0; j < 32; ++j) out[2 + j / 8] |= static_cast<uint8_t>((q[j] >> 4) << (j % 8));
  for (int j = 0; j < 16; ++j)
    out[6 + j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}

void pack(const Iq4XsBlock& block, uint8_t* out) {
  put_u16(block.scale, out);
  std::memset(out + 2, 0, 6);
  for (int g = 0; g < 8; ++g) {
    const int scale = block.scales[g] + 32;
    out[4 + g / 2] |= static_cast<uint8_t>((scale & 15) << (4 * (g % 2)));
    out[2 + g / 4] |= static_cast<uint8_t>((scale >> 4) << (2 * (g % 4)));
    for (int j = 0; j < 16; ++j)
      out[8 + 16 * g + j] =
          static_cast<uint8_t>(block.q[32 * g + j] | block.q[32 * g + j + 16] << 4);
  }
}

void pack(const Q6KBlock& block, uint8_t* out) {
  uint8_t nibbles[128], twos[64];
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 32; ++j) {
      const int8_t* q = block.q + 128 * half + j;
      const int a = q[0] + 32, b = q[32] + 32, c = q[64] + 32, d = q[96] + 32;
      nibbles[64 * half + j] = static_cast<uint8_t>((a & 15) | (c & 15) << 4);
      nibbles[64 * half + 32 + j] = static_cast<uint8_t>((b & 15) | (d & 15) << 4);
      twos[32 * half + j] = two_bits(a >> 4, b >> 4, c >> 4, d >> 4);
    }
  std::memcpy(out, nibbles, 128);
  std::memcpy(out + 128, twos, 64);
  std::memcpy(out + 192, block.scales, 16);
  put_u16(block.scale, out + 208);
}

void pack_q4_k(const QMinKBlock& block, uint8_t* out) {
  put_min_head(block, out);
  put_min_nibbles(block, out + 16);
}

void pack_q5_k(const QMinKBlock& block, uint8_t* out) {
  put_min_head(block, out);
  std::memset(out + 16, 0, 32);
  for (int i = 0; i < 256; ++i)
    out[16 + i % 32] |= static_cast<uint8_t>((block.q[i] >> 4) << (i / 32));
  put_min_nibbles(block, out + 48);
}

void pack(const Q3KBlock& block, uint8_t* out) {
  uint8_t thirds[32] = {}, twos[64];  // the third bits: bit i / 32 of byte i % 32
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 32; ++j) {
      const int8_t* q = block.q + 128 * half + j;
      const int a = q[0] + 4, b = q[32] + 4, c = q[64] + 4, d = q[96] + 4;
      thirds[j] |= static_cast<uint8_t>(((a >> 2) | (b >> 2) << 1 | (c >> 2) << 2 | (d >> 2) << 3)
                                        << (4 * half));
      twos[32 * half + j] = two_bits(a & 3, b & 3, c & 3, d & 3);
    }
  std::memcpy(out, thirds, 32);
  std::memcpy(out + 32, twos, 64);
  std::memset(out + 96, 0, 12);
  for (int s = 0; s < 16; ++s) {
    const int scale = block.scales[s] + 32;
    out[96 + s % 8] |= static_cast<uint8_t>((scale & 15) << (4 * (s / 8)));
    out[104 + s % 4] |= static_cast<uint8_t>((scale >> 4) << (2 * (s / 4)));
  }
  put_u16(block.scale, out + 108);
}

}  // namespace lapidary
