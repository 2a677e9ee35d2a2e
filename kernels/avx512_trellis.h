// Trellis codes to levels, a line at a time: bytes to their words by one permutation, windows of 16
// bits by one multishift, their numbers by one product, their levels by one look-up.
// formats/trellis.h has the definition.
//
// Everything is anonymous, so that each file has its own.
#pragma once

#include <immintrin.h>

#include "formats/trellis.h"

namespace lapidary::avx512 {
namespace {

// Where the bytes of 32 windows lie, four windows in each 64-bit word, and where their bits start
// there: the same for each half of a line but for the first byte.
template <int kBits>
struct TrellisPlaces {
  alignas(64) uint8_t bytes[4][2][64];  // [line of a block][half]
  alignas(64) uint8_t bits[64];
  static constexpr int kBlockBytes = kTrellisSteps / 8 * kBits;
  // Of the 64 bytes that hold a line's windows.
  static constexpr int first_byte(int line) {
    return line * 8 * kBits < kBlockBytes - 64 ? line * 8 * kBits : kBlockBytes - 64;
  }
  constexpr TrellisPlaces() : bytes{}, bits{} {
    for (int word = 0; word < 8; ++word)
      for (int i = 0; i < 8; ++i) {
        bits[8 * word + i] = static_cast<uint8_t>(4 * word * kBits % 8 + i / 2 * kBits + i % 2 * 8);
        for (int line = 0; line < 4; ++line)
          for (int half = 0; half < 2; ++half)
            bytes[line][half][8 * word + i] = static_cast<uint8_t>(
                (2 * line + half) * 4 * kBits - first_byte(line) + 4 * word * kBits / 8 + i);
      }
  }
};
template <int kBits>
constexpr TrellisPlaces<kBits> kTrellisPlaces;

// Every second byte of two vectors.
struct alignas(64) UpperBytes {
  uint8_t at[64];
};
constexpr UpperBytes upper_bytes() {
  UpperBytes upper{};
  for (int i = 0; i < 64; ++i) upper.at[i] = static_cast<uint8_t>(2 * i + 1);
  return upper;
}
constexpr UpperBytes kUpperBytes = upper_bytes();

// level + 128 of a tile's line.
template <int kBits>
__m512i trellis_line(const uint8_t* tile, int line) {
  constexpr const TrellisPlaces<kBits>& kPlaces = kTrellisPlaces<kBits>;
  const uint8_t* block = tile + line / 4 * kPlaces.kBlockBytes;
  const __m512i stored = _mm512_loadu_si512(block + kPlaces.first_byte(line % 4));
  const __m512i factor = _mm512_set1_epi16(static_cast<int16_t>(trellis_factor(kBits) << 4));
  __m512i product[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m512i at = _mm512_load_si512(kPlaces.bytes[line % 4][half]);
    // The last line's windows run into the ring's first bytes: bytes 64 and on.
    const __m512i words = line % 4 < 3
                              ? _mm512_permutexvar_epi8(at, stored)
                              : _mm512_permutex2var_epi8(stored, at, _mm512_loadu_si512(block));
    product[half] = _mm512_mullo_epi16(
        _mm512_multishift_epi64_epi8(_mm512_load_si512(kPlaces.bits), words), factor);
  }
  const __m512i number =
      _mm512_permutex2var_epi8(product[0], _mm512_load_si512(kUpperBytes.at), product[1]);
  // Levels are odd: below 128 the number's mirror image is looked up and the level negated.
  const __mmask64 negative = _mm512_testn_epi8_mask(number, _mm512_set1_epi8(-128));
  const __m512i at = _mm512_mask_sub_epi8(number, negative, _mm512_set1_epi8(127), number);
  const __m512i offset = _mm512_set1_epi8(-128);
  const __m512i low = _mm512_xor_si512(_mm512_loadu_si512(kTrellisLevels + 128), offset);
  const __m512i high = _mm512_xor_si512(_mm512_loadu_si512(kTrellisLevels + 192), offset);
  const __m512i level = _mm512_permutex2var_epi8(low, at, high);
  return _mm512_mask_sub_epi8(level, negative, _mm512_setzero_si512(), level);
}

}  // namespace
}  // namespace lapidary::avx512
