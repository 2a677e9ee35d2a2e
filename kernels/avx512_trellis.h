// Trellis codes to levels, a line at a time: each pair of rows' bits to a 64-bit word by one
// permutation, its eight windows of 16 bits by two multishifts, their numbers by a product, their
// levels by one look-up. formats/trellis.h has the definition.
//
// Everything is anonymous, so that each file has its own.
#pragma once

#include <immintrin.h>

#include "formats/trellis.h"

namespace lapidary::avx512 {
namespace {

struct alignas(64) TrellisBytes {
  uint8_t at[64];
};

// Eight windows (two rows of a line) take kBits bytes, and the last one reaches into the next two.
template <int kBits>
struct TrellisPlaces {
  static constexpr int kBlockBytes = kTrellisSteps / 8 * kBits;
  TrellisBytes bytes[4];    // [line of a block]: of each word among the 64 bytes loaded
  TrellisBytes windows[2];  // where the bits of the word's lower and upper four start
  // Of the 64 bytes that hold a line's windows, all within the block.
  static constexpr int first_byte(int line) {
    return line * 8 * kBits < kBlockBytes - 64 ? line * 8 * kBits : kBlockBytes - 64;
  }
  constexpr TrellisPlaces() : bytes{}, windows{} {
    for (int word = 0; word < 8; ++word)
      for (int i = 0; i < 8; ++i) {
        for (int line = 0; line < 4; ++line)
          bytes[line].at[8 * word + i] =
              static_cast<uint8_t>((8 * line + word) * kBits + i - first_byte(line));
        for (int half = 0; half < 2; ++half)
          windows[half].at[8 * word + i] =
              static_cast<uint8_t>((4 * half + i / 2) * kBits + i % 2 * 8);
      }
  }
};
template <int kBits>
constexpr TrellisPlaces<kBits> kTrellisPlaces;

// The upper bytes of the 16-bit lanes of two vectors: four of one, four of the other, in turns.
constexpr TrellisBytes upper_bytes() {
  TrellisBytes upper{};
  for (int i = 0; i < 64; ++i)
    upper.at[i] = static_cast<uint8_t>(64 * (i / 4 % 2) + 8 * (i / 8) + 2 * (i % 4) + 1);
  return upper;
}
constexpr TrellisBytes kUpperBytes = upper_bytes();

// level + 128 of a tile's line. Inlined whatever its length: nearly all of it is constant then.
template <int kBits>
[[gnu::always_inline]] inline __m512i trellis_line(const uint8_t* tile, int line) {
  constexpr const TrellisPlaces<kBits>& kPlaces = kTrellisPlaces<kBits>;
  const uint8_t* block = tile + line / 4 * kPlaces.kBlockBytes;
  const __m512i stored = _mm512_loadu_si512(block + kPlaces.first_byte(line % 4));
  const __m512i at = _mm512_load_si512(kPlaces.bytes[line % 4].at);
  // The last line's windows run into the ring's first bytes: bytes 64 and on.
  const __m512i words = line % 4 < 3
                            ? _mm512_permutexvar_epi8(at, stored)
                            : _mm512_permutex2var_epi8(stored, at, _mm512_loadu_si512(block));
  __m512i factor = _mm512_set1_epi16(static_cast<int16_t>(trellis_factor(kBits) << 4));
  asm("" : "+v"(factor));  // else GCC multiplies by shifts and sums, five for one
  __m512i product[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half)
    product[half] = _mm512_mullo_epi16(
        _mm512_multishift_epi64_epi8(_mm512_load_si512(kPlaces.windows[half].at), words), factor);
  const __m512i number =
      _mm512_permutex2var_epi8(product[0], _mm512_load_si512(kUpperBytes.at), product[1]);
  // Levels are odd: below 128 the number's mirror image is looked up and the level negated.
  const __mmask64 negative = _mm512_testn_epi8_mask(number, _mm512_set1_epi8(-128));
  const __m512i mirrored = _mm512_mask_sub_epi8(number, negative, _mm512_set1_epi8(127), number);
  const __m512i offset = _mm512_set1_epi8(-128);
  const __m512i low = _mm512_xor_si512(_mm512_loadu_si512(kTrellisLevels + 128), offset);
  const __m512i high = _mm512_xor_si512(_mm512_loadu_si512(kTrellisLevels + 192), offset);
  const __m512i level = _mm512_permutex2var_epi8(low, mirrored, high);
  return _mm512_mask_sub_epi8(level, negative, _mm512_setzero_si512(), level);
}

}  // namespace
}  // namespace lapidary::avx512
