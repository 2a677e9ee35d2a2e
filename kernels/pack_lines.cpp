// Planes by shifts of whole words: the indices of a byte lie a plane apart, so no bit crosses into
// its neighbour.
#include "kernels/pack_lines.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lapidary {
namespace {

constexpr int kWords = kTileLineBytes / 8;

uint64_t repeat(uint64_t byte) { return byte * 0x0101010101010101u; }

// Bits 0..3: word w has line w / 8 in its low nibbles and line w / 8 + 8 in its high ones.
uint8_t* put_plane4(const uint64_t* in, uint8_t* out) {
  uint64_t words[kWords / 2];
  for (int w = 0; w < kWords / 2; ++w)
    words[w] = (in[w] & repeat(15)) | (in[w + kWords / 2] & repeat(15)) << 4;
  std::memcpy(out, words, sizeof words);
  return out + sizeof words;
}

// Two bits from `shift` on, of four lines a quarter of the tile apart.
uint8_t* put_plane2(const uint64_t* in, int shift, uint8_t* out) {
  uint64_t words[kWords / 4];
  for (int w = 0; w < kWords / 4; ++w) {
    words[w] = 0;
    for (int i = 0; i < 4; ++i)
      words[w] |= (in[w + i * (kWords / 4)] >> shift & repeat(3)) << (2 * i);
  }
  std::memcpy(out, words, sizeof words);
  return out + sizeof words;
}

// One bit at `shift` of eight neighbours. The product moves bit 8 j to bit 56 + j; no two of its
// terms meet, so nothing carries.
uint8_t* put_plane1(const uint64_t* in, int shift, uint8_t* out) {
  for (int w = 0; w < kWords; ++w)
    *out++ = static_cast<uint8_t>((in[w] >> shift & repeat(1)) * 0x0102040810204080u >> 56);
  return out;
}

// The ways back add their bits to `out`.
const uint8_t* get_plane4(const uint8_t* in, uint64_t* out) {
  uint64_t words[kWords / 2];
  std::memcpy(words, in, sizeof words);
  for (int w = 0; w < kWords / 2; ++w) {
    out[w] |= words[w] & repeat(15);
    out[w + kWords / 2] |= words[w] >> 4 & repeat(15);
  }
  return in + sizeof words;
}

const uint8_t* get_plane2(const uint8_t* in, int shift, uint64_t* out) {
  uint64_t words[kWords / 4];
  std::memcpy(words, in, sizeof words);
  for (int w = 0; w < kWords / 4; ++w)
    for (int i = 0; i < 4; ++i)
      out[w + i * (kWords / 4)] |= (words[w] >> (2 * i) & repeat(3)) << shift;
  return in + sizeof words;
}

const uint8_t* get_plane1(const uint8_t* in, int shift, uint64_t* out) {
  for (int w = 0; w < kWords; ++w, ++in)
    for (int byte = 0; byte < 8; ++byte)
      out[w] |= (uint64_t{*in} >> byte & 1) << (8 * byte + shift);
  return in;
}

// A string of bits: eight symbols fill `bits` bytes.
void put_symbols(int bits, const uint8_t* in, uint8_t* out) {
  for (int i = 0; i < kTileLineBytes; i += 8) {
    uint64_t word = 0;
    for (int j = 0; j < 8; ++j) word |= uint64_t{in[i + j]} << (j * bits);
    for (int byte = 0; byte < bits; ++byte) *out++ = static_cast<uint8_t>(word >> (8 * byte));
  }
}

void get_symbols(int bits, const uint8_t* in, uint8_t* out) {
  for (int i = 0; i < kTileLineBytes; i += 8) {
    uint64_t word = 0;
    for (int byte = 0; byte < bits; ++byte) word |= uint64_t{*in++} << (8 * byte);
    for (int j = 0; j < 8; ++j)
      out[i + j] = static_cast<uint8_t>(word >> (j * bits) & ((1u << bits) - 1));
  }
}

}  // namespace

void pack_tile_lines(Code code, const uint8_t* lines, uint8_t* out) noexcept {
  if (traits(code).is_trellis) return put_symbols(traits(code).bits, lines, out);
  uint64_t in[kWords];
  std::memcpy(in, lines, sizeof in);
  switch (code) {
    case Code::kW6:
      put_plane2(in, 4, put_plane4(in, out));
      return;
    case Code::kW5:
      put_plane1(in, 4, put_plane4(in, out));
      return;
    case Code::kW4:
    case Code::kW4x:
      put_plane4(in, out);
      return;
    case Code::kW3:
      put_plane1(in, 2, put_plane2(in, 0, out));
      return;
    default:  // 8 bits are stored as the level itself
      for (uint64_t& word : in) word ^= repeat(0x80);
      std::memcpy(out, in, sizeof in);
  }
}

void unpack_tile_lines(Code code, const uint8_t* tile, uint8_t* lines) noexcept {
  if (traits(code).is_trellis) return get_symbols(traits(code).bits, tile, lines);
  uint64_t out[kWords] = {};
  switch (code) {
    case Code::kW6:
      get_plane2(get_plane4(tile, out), 4, out);
      break;
    case Code::kW5:
      get_plane1(get_plane4(tile, out), 4, out);
      break;
    case Code::kW4:
    case Code::kW4x:
      get_plane4(tile, out);
      break;
    case Code::kW3:
      get_plane1(get_plane2(tile, 0, out), 2, out);
      break;
    default:
      std::memcpy(out, tile, sizeof out);
      for (uint64_t& word : out) word ^= repeat(0x80);
  }
  std::memcpy(lines, out, sizeof out);
}

void pack_group_multipliers(const PackedGeometry& g, int64_t group, const int8_t* multipliers,
                            uint8_t* meta) noexcept {
  uint8_t* const nibbles = meta + g.n_scale_blocks * kPanelRows * 2;
  uint8_t* const signs = nibbles + g.n_groups * (kPanelRows / 2);
  uint8_t* const fifths = signs + g.n_groups * (kPanelRows / 8);  // only w3 has them
  for (int row = 0; row < kPanelRows; ++row) {
    const int magnitude = std::abs(multipliers[row]);
    const int64_t mask_byte = group * (kPanelRows / 8) + row / 8;
    const uint8_t bit = static_cast<uint8_t>(1 << (row % 8));
    nibbles[group * (kPanelRows / 2) + row / 2] |=
        static_cast<uint8_t>((magnitude & 15) << (row % 2 * 4));
    if (multipliers[row] < 0) signs[mask_byte] |= bit;
    if (magnitude & 16) fifths[mask_byte] |= bit;
  }
}

uint8_t padding_index(Code code) noexcept {
  if (traits(code).is_trellis) return 0;
  const std::span<const int8_t> table = levels(code);
  const auto nearest = std::min_element(
      table.begin(), table.end(), [](int8_t a, int8_t b) { return std::abs(a) < std::abs(b); });
  return static_cast<uint8_t>(nearest - table.begin());
}

}  // namespace lapidary
