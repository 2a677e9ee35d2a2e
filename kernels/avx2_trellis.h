// Trellis codes to levels, half a line at a time: windows of 12 bits in lanes of 32, one product,
// and the 256 levels from eight tables of 16 magnitudes. formats/trellis.h has the definition.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "formats/trellis.h"

namespace lapidary::avx2 {

inline constexpr int kLineBytes = 64;

static inline __m256i load_bytes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// The eight bytes from `first` on in a ring of n_bytes.
static inline int64_t load_ring(const uint8_t* ring, int n_bytes, int first) {
  uint64_t here, start;
  if (first + 8 <= n_bytes) {
    std::memcpy(&here, ring + first, sizeof here);
    return static_cast<int64_t>(here);
  }
  std::memcpy(&here, ring + n_bytes - 8, sizeof here);
  std::memcpy(&start, ring, sizeof start);
  const int missing = 8 * (first + 8 - n_bytes);  // bits, 8 to 56
  return static_cast<int64_t>(here >> missing | start << (64 - missing));
}

// The levels of 32 numbers (state * factor >> 4).
static inline __m256i trellis_levels_of(__m256i number) {
  const __m256i positive = _mm256_cmpgt_epi8(_mm256_setzero_si256(), number);  // 128 and above
  const __m256i at = _mm256_andnot_si256(_mm256_xor_si256(number, positive), _mm256_set1_epi8(127));
  const auto sixteen = [at](int i) {
    const auto* p = reinterpret_cast<const __m128i*>(kTrellisLevels + 128 + 16 * i);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(p)), at);
  };
  // Bits 4 to 6 of `at` choose among eight tables.
  const __m256i bit4 = _mm256_slli_epi16(at, 3), bit5 = _mm256_slli_epi16(at, 2);
  const __m256i bit6 = _mm256_slli_epi16(at, 1);
  const __m256i low = _mm256_blendv_epi8(_mm256_blendv_epi8(sixteen(0), sixteen(1), bit4),
                                         _mm256_blendv_epi8(sixteen(2), sixteen(3), bit4), bit5);
  const __m256i high = _mm256_blendv_epi8(_mm256_blendv_epi8(sixteen(4), sixteen(5), bit4),
                                          _mm256_blendv_epi8(sixteen(6), sixteen(7), bit4), bit5);
  const __m256i magnitude = _mm256_blendv_epi8(low, high, bit6);
  return _mm256_sub_epi8(
      _mm256_xor_si256(magnitude, _mm256_xor_si256(positive, _mm256_set1_epi8(-1))),
      _mm256_xor_si256(positive, _mm256_set1_epi8(-1)));
}

// Numbers of the 32 windows from byte `first` of a 4-bit ring on. Every window lies in two bytes,
// so 16-bit lanes do: it starts at bit 0, where surplus bits leave the product at the top, or at
// bit 4, where they are masked and the factor is not shifted.
static inline __m256i trellis_numbers4(const uint8_t* block, int n_bytes, int first) {
  constexpr int kFactor = static_cast<int>(trellis_factor(4));
  const __m256i pairs = _mm256_setr_epi8(0, 1, 0, 1, 1, 2, 1, 2, 2, 3, 2, 3, 3, 4, 3, 4,  //
                                         0, 1, 0, 1, 1, 2, 1, 2, 2, 3, 2, 3, 3, 4, 3, 4);
  const __m256i kept = _mm256_set1_epi32(static_cast<int>(0xfff0ffffu));
  const __m256i factors = _mm256_set1_epi32(kFactor << 16 | kFactor << 4);
  __m256i number[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {  // eight windows to a half: 0 and 16 on, then 8 and 24 on
    const __m128i low = _mm_cvtsi64_si128(load_ring(block, n_bytes, first + 4 * i));
    const __m128i high = _mm_cvtsi64_si128(load_ring(block, n_bytes, first + 4 * i + 8));
    const __m256i words = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), pairs);
    number[i] = _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_and_si256(words, kept), factors), 8);
  }
  return _mm256_packus_epi16(number[0], number[1]);
}

// Steps 32 i .. 32 i + 31 of a line, i = at / 32, as levels in the line's order.
template <int kBits>
static inline __m256i trellis_half_line(const uint8_t* tile, int line, int at) {
  constexpr int kBlockBytes = kTrellisSteps / 8 * kBits;
  const uint8_t* block = tile + line / 4 * kBlockBytes;
  const int first = (line % 4 * kLineBytes + at) / 8 * kBits;
  if constexpr (kBits == 4) return trellis_levels_of(trellis_numbers4(block, kBlockBytes, first));
  // Window i of eight starts at bit kBits * i.
  const auto byte = [](int i) { return static_cast<char>(kBits * i / 8); };
  const auto three = [byte](int i) {
    return static_cast<int>(0x80000000u | static_cast<uint32_t>(byte(i) + 2) << 16 |
                            static_cast<uint32_t>(byte(i) + 1) << 8 |
                            static_cast<uint32_t>(byte(i)));
  };
  const auto shift = [](int i) { return kBits * i % 8; };
  const __m256i bytes = _mm256_setr_epi32(three(0), three(1), three(2), three(3), three(4),
                                          three(5), three(6), three(7));
  const __m256i shifts = _mm256_setr_epi32(shift(0), shift(1), shift(2), shift(3), shift(4),
                                           shift(5), shift(6), shift(7));
  __m256i factor = _mm256_set1_epi16(static_cast<int16_t>(trellis_factor(kBits) << 4));
  asm("" : "+x"(factor));  // else GCC multiplies by shifts and sums, five for one
  __m256i number[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256i eight = _mm256_set1_epi64x(load_ring(block, kBlockBytes, first + i * kBits));
    const __m256i window = _mm256_srlv_epi32(_mm256_shuffle_epi8(eight, bytes), shifts);
    const __m256i product = _mm256_mullo_epi16(window, factor);  // the lower 16 bits matter
    number[i] = _mm256_srli_epi32(_mm256_slli_epi32(product, 16), 24);
  }
  const __m256i packed = _mm256_packus_epi16(_mm256_packus_epi32(number[0], number[1]),
                                             _mm256_packus_epi32(number[2], number[3]));
  return trellis_levels_of(
      _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

}  // namespace lapidary::avx2
