// Packed bits to levels: one tile becomes 16 lines of 64 int8, line j holding k = 4j..4j+3 of the
// 16 rows (formats/packed_matrix.h). Levels are left without their multipliers, which stay 16 per
// group.
#pragma once

#include "formats/packed_matrix.h"
#include "kernels/avx2_trellis.h"
#include "kernels/avx2_vector.h"
#include "kernels/panel.h"

namespace lapidary::avx2 {

inline constexpr int kTileLines = 16;
inline constexpr int kPlane4Bytes = 512, kPlane2Bytes = 256;

// 32 bytes of a line, `at` = 0 or 32, from each kind of plane.
static inline __m256i plane4(const uint8_t* plane, int line, int at) {
  const __m256i stored = load_bytes(plane + kLineBytes * (line % 8) + at);
  return _mm256_and_si256(line < 8 ? stored : _mm256_srli_epi16(stored, 4), _mm256_set1_epi8(15));
}
static inline __m256i plane2(const uint8_t* plane, int line, int at) {
  const __m256i stored = load_bytes(plane + kLineBytes * (line % 4) + at);
  return _mm256_and_si256(_mm256_srli_epi16(stored, 2 * (line / 4)), _mm256_set1_epi8(3));
}
// 32 bits to bytes, `value` where the bit is set.
static inline __m256i spread_bits(const uint8_t* four_bytes, int8_t value) {
  int32_t bits;
  std::memcpy(&bits, four_bytes, sizeof bits);
  const __m256i spread =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit),
                          _mm256_set1_epi8(value));
}

static inline __m256i plane1(const uint8_t* plane, int line, int at, int8_t value) {
  return spread_bits(plane + 8 * line + at / 8, value);
}

static inline __m256i w3_index(const uint8_t* tile, int line, int at) {
  return _mm256_or_si256(plane2(tile, line, at), plane1(tile + kPlane2Bytes, line, at, 4));
}

template <Code C>
static inline __m256i decode_half_line(const uint8_t* tile, int line, int at) {
  if constexpr (C == Code::kW4 || C == Code::kW4x) {
    return _mm256_sub_epi8(plane4(tile, line, at), _mm256_set1_epi8(8));
  } else if constexpr (C == Code::kW5) {
    const __m256i high = plane1(tile + kPlane4Bytes, line, at, 16);
    return _mm256_sub_epi8(_mm256_or_si256(plane4(tile, line, at), high), _mm256_set1_epi8(16));
  } else if constexpr (C == Code::kW6) {
    const __m256i high = _mm256_slli_epi16(plane2(tile + kPlane4Bytes, line, at), 4);
    return _mm256_sub_epi8(_mm256_or_si256(plane4(tile, line, at), high), _mm256_set1_epi8(32));
  } else if constexpr (C == Code::kW3) {
    const __m256i table =  // levels(Code::kW3), once per 128-bit half
        _mm256_setr_epi8(-7, -4, -2, -1, 1, 2, 4, 7, 0, 0, 0, 0, 0, 0, 0, 0,  //
                         -7, -4, -2, -1, 1, 2, 4, 7, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm256_shuffle_epi8(table, w3_index(tile, line, at));
  } else if constexpr (C == Code::kT3) {
    return trellis_half_line<3>(tile, line, at);
  } else if constexpr (C == Code::kT4) {
    return trellis_half_line<4>(tile, line, at);
  } else if constexpr (C == Code::kT5) {
    return trellis_half_line<5>(tile, line, at);
  } else if constexpr (C == Code::kT6) {
    return trellis_half_line<6>(tile, line, at);
  } else {
    static_assert(C == Code::kW8 || C == Code::kW8x);
    return load_bytes(tile + kLineBytes * line + at);
  }
}

// out: [16 lines][64], any alignment.
template <Code C>
static inline void decode_levels(const uint8_t* tile, int8_t* out) {
#pragma GCC unroll 16
  for (int line = 0; line < kTileLines; ++line)
    for (int at = 0; at < kLineBytes; at += 32)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kLineBytes * line + at),
                          decode_half_line<C>(tile, line, at));
}

// The 2 x 16 signed multipliers of a tile's groups as int8. REQUIRES: a two-level code.
static inline __m256i load_multipliers(const PanelParts& parts, int64_t tile, int largest) {
  const __m128i pairs =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(parts.magnitudes + 16 * tile));
  const __m128i nibble = _mm_set1_epi8(15);
  const __m128i even = _mm_and_si128(pairs, nibble);
  const __m128i odd = _mm_and_si128(_mm_srli_epi16(pairs, 4), nibble);
  __m256i magnitude = _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
  if (parts.fifth_bits != nullptr)
    magnitude = _mm256_or_si256(magnitude, spread_bits(parts.fifth_bits + 4 * tile, 16));
  magnitude = _mm256_min_epu8(magnitude, _mm256_set1_epi8(static_cast<char>(largest)));
  const __m256i negative = spread_bits(parts.signs + 4 * tile, -1);
  return _mm256_sub_epi8(_mm256_xor_si256(magnitude, negative), negative);
}

// Eight scales of a block, rows first .. first + 7.
static inline __m256 load_scales(const PanelParts& parts, ScaleType type, int64_t block,
                                 int first) {
  const uint8_t* p = parts.scales + 2 * (block * kPanelRows + first);
  return type == ScaleType::kF16 ? load8(reinterpret_cast<const Half*>(p))
                                 : load8(reinterpret_cast<const Brain*>(p));
}

}  // namespace lapidary::avx2
