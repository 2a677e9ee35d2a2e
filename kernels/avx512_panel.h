// Packed lines in 64-byte vectors: one line of a panel each, a lane per row. For the integer
// products of AVX-512 and AMX (vnni_matmul.h says what it wants of a vector type).
//
// Everything is anonymous, so that each file has its own.
#pragma once

#include "kernels/avx512_trellis.h"
#include "kernels/avx512_vector.h"
#include "kernels/vnni_task.h"

namespace lapidary::avx512 {
namespace {

constexpr int kPlane4Bytes = 512, kPlane2Bytes = 256;

__m512i plane4(const uint8_t* plane, int line) {
  const __m512i stored = _mm512_loadu_si512(plane + 64 * (line % 8));
  return _mm512_and_si512(line < 8 ? stored : _mm512_srli_epi16(stored, 4), _mm512_set1_epi8(15));
}

// Where each byte of a line starts in the 64 bits of its 1-bit plane, to have its own bit at
// `place`.
struct alignas(64) Starts {
  uint8_t bit[64];
};
constexpr Starts starts_for(int place) {
  Starts starts{};
  for (int byte = 0; byte < 64; ++byte)
    starts.bit[byte] = static_cast<uint8_t>((byte - place) & 63);
  return starts;
}
// Each byte has its bit of the line at kPlace, and neighbours' bits in the other places.
template <int kPlace>
__m512i plane1(const uint8_t* plane, int line) {
  static constexpr Starts kStarts = starts_for(kPlace);
  int64_t bits;
  std::memcpy(&bits, plane + 8 * line, sizeof bits);
  return _mm512_multishift_epi64_epi8(_mm512_load_si512(kStarts.bit), _mm512_set1_epi64(bits));
}

struct Vector {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kBytes = 64, kLanes = 16;
  static constexpr int kTokensAtOnce = 8;            // 16 of the 32 registers are sums
  static constexpr int kTokensAtOnceWithFloats = 6;  // 24 of 32: sums and the floats they join

  static Ints set(int32_t v) { return _mm512_set1_epi32(v); }
  static Floats set(float v) { return _mm512_set1_ps(v); }
  static Ints load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store(uint8_t* p, Ints v) { _mm512_storeu_si512(p, v); }
  static Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static Floats load_rows(const float* p, int64_t n) {
    return n >= kLanes ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(first_lanes(n), p);
  }
  static void store_rows(float* p, int64_t n, Floats v) {
    if (n >= kLanes)
      _mm512_storeu_ps(p, v);
    else
      _mm512_mask_storeu_ps(p, first_lanes(n), v);
  }
  static Ints broadcast4(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  // By hand: GCC 12 copies the sum around the intrinsic each time, which costs a quarter.
  static Ints dot(Ints sum, Ints u8, Ints s8) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8));
    return sum;
  }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints multiply(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static int32_t sum(Ints v) { return _mm512_reduce_add_epi32(v); }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }

  // level + offset of a tile's line.
  template <Code C>
  static Ints index(const uint8_t* tile, int line, int /*part*/) {
    if constexpr (C == Code::kW4 || C == Code::kW4x) {
      return plane4(tile, line);
    } else if constexpr (C == Code::kW5) {
      const Ints all =
          select(_mm512_set1_epi8(15), plane4(tile, line), plane1<4>(tile + kPlane4Bytes, line));
      return _mm512_and_si512(all, _mm512_set1_epi8(31));
    } else if constexpr (C == Code::kW6) {
      const Ints stored = _mm512_loadu_si512(tile + kPlane4Bytes + 64 * (line % 4));
      const int shift = 4 - 2 * (line / 4);  // the line's two bits to places 4 and 5
      const Ints high =
          shift >= 0 ? _mm512_slli_epi16(stored, shift) : _mm512_srli_epi16(stored, -shift);
      return merge(plane4(tile, line), high, _mm512_set1_epi8(0x30));
    } else if constexpr (C == Code::kW3) {
      return level_w3(index_w3(tile, line));
    } else if constexpr (vnni::kTrellisBits<C> > 0) {
      return trellis_line<vnni::kTrellisBits<C>>(tile, line);
    } else {
      static_assert(C == Code::kW8 || C == Code::kW8x);
      return _mm512_xor_si512(_mm512_loadu_si512(tile + 64 * line), _mm512_set1_epi8(-128));
    }
  }

  // The 16 signed multipliers of each group of a tile.
  template <Code C>
  static void multipliers(const PanelParts& parts, int64_t tile, int /*part*/, Ints (&out)[2]) {
    const __m256i starts = _mm256_set_epi64x(0x3c3834302c282420, 0x1c1814100c080400,
                                             0x3c3834302c282420, 0x1c1814100c080400);
    const __m128i* nibbles = reinterpret_cast<const __m128i*>(parts.magnitudes + 16 * tile);
    const __m256i twice =  // each group's eight bytes in two places
        _mm256_permute4x64_epi64(_mm256_castsi128_si256(_mm_loadu_si128(nibbles)), 0x50);
    __m256i bytes =
        _mm256_and_si256(_mm256_multishift_epi64_epi8(starts, twice), _mm256_set1_epi8(15));
    if constexpr (C == Code::kW3) {
      bytes = _mm256_mask_add_epi8(bytes, row_masks(parts.fifth_bits + 4 * tile), bytes,
                                   _mm256_set1_epi8(16));
      bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(18));
    }
    if constexpr (C == Code::kW5) bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(7));
    bytes = _mm256_mask_sub_epi8(bytes, row_masks(parts.signs + 4 * tile), _mm256_setzero_si256(),
                                 bytes);
    out[0] = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes));
    out[1] = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1));
  }

  // What turns a row's indices into level * multiplier + kZero: negative multipliers reverse the
  // order of the levels, so that all products, counted from the lowest, fit a byte.
  struct Factors {
    Ints flip;   // an index's bits where the multiplier is negative
    Ints words;  // the magnitude, twice 16 bits
    Ints bias;   // kZero - (what indices are above levels) * magnitude, four times
  };
  template <Code C, int kZero = 128>
  static Factors factors(Ints multipliers) {
    constexpr int kOffset = vnni::kOffset<C>;
    const Ints zero = _mm512_setzero_si512(), magnitude = _mm512_abs_epi32(multipliers);
    const __mmask16 negative = _mm512_movepi32_mask(multipliers);
    constexpr int kIndexBits = C == Code::kW3 ? 7 : 2 * kOffset - 1;
    Ints surplus = _mm512_mullo_epi32(magnitude, _mm512_set1_epi32(kOffset));
    if constexpr (C != Code::kW3)  // reversed indices are one less above reversed levels
      surplus = _mm512_mask_sub_epi32(surplus, negative, surplus, magnitude);
    const Ints bias = _mm512_sub_epi32(_mm512_set1_epi32(kZero), surplus);
    return {_mm512_mask_set1_epi32(zero, negative, kIndexBits * 0x01010101),
            _mm512_or_si512(magnitude, _mm512_slli_epi32(magnitude, 16)),
            _mm512_shuffle_epi8(bias, _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0))};
  }
  // level * multiplier + kZero of a tile's line.
  template <Code C>
  static Ints scaled(const uint8_t* tile, int line, int part, const Factors& f) {
    Ints bytes;
    if constexpr (C == Code::kW3)
      bytes = level_w3(_mm512_xor_si512(index_w3(tile, line), f.flip));
    else
      bytes = _mm512_xor_si512(index<C>(tile, line, part), f.flip);
    return _mm512_add_epi8(_mm512_mullo_epi16(bytes, f.words), f.bias);
  }

  static Floats load_scales(const PanelParts& parts, ScaleType type, int64_t block, int /*part*/) {
    const uint8_t* p = parts.scales + 2 * block * kPanelRows;
    return type == ScaleType::kF16 ? load16(reinterpret_cast<const Half*>(p))
                                   : load16(reinterpret_cast<const Brain*>(p));
  }

 private:
  // a | (b & mask).
  static Ints merge(Ints a, Ints b, Ints mask) {
    return _mm512_ternarylogic_epi32(a, b, mask, 0xf0 | (0xcc & 0xaa));
  }
  // a where the mask's bits are set, b elsewhere.
  static Ints select(Ints mask, Ints a, Ints b) {
    return _mm512_ternarylogic_epi32(mask, a, b, (0xf0 & 0xcc) | (~0xf0 & 0xaa));
  }
  // Bits of 16 rows of two groups.
  static __mmask32 row_masks(const uint8_t* four_bytes) {
    uint32_t bits;
    std::memcpy(&bits, four_bytes, sizeof bits);
    return _cvtu32_mask32(bits);
  }
  // The three bits of a w3 line's indices; above them are neighbours' bits.
  static Ints index_w3(const uint8_t* tile, int line) {
    const Ints stored = _mm512_loadu_si512(tile + 64 * (line % 4));
    return select(_mm512_set1_epi8(3), _mm512_srli_epi16(stored, 2 * (line / 4)),
                  plane1<2>(tile + kPlane2Bytes, line));
  }
  // levels(Code::kW3) + 7. vpermb looks at six bits: period 8 makes the table blind to three.
  static Ints level_w3(Ints index) {
    return _mm512_permutexvar_epi8(index, _mm512_set1_epi64(0x0e0b090806050300));
  }
};

}  // namespace
}  // namespace lapidary::avx512
