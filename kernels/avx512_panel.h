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

template <bool kTimes16 = false>
__m512i plane4(const uint8_t* plane, int line) {
  const __m512i stored = _mm512_loadu_si512(plane + 64 * (line % 8));
  if (line < 8) return _mm512_and_si512(stored, _mm512_set1_epi8(15));
  if (kTimes16) return _mm512_and_si512(stored, _mm512_set1_epi8(-16));
  return _mm512_and_si512(_mm512_srli_epi16(stored, 4), _mm512_set1_epi8(15));
}

struct alignas(64) Bytes {
  uint8_t byte[64];
};

// A 64 byte block's bytes as a matrix of 8 x 8, transposed.
constexpr Bytes transpose() {
  Bytes t{};
  for (int i = 0; i < 64; ++i) t.byte[i] = static_cast<uint8_t>(i % 8 * 8 + i / 8);
  return t;
}
constexpr Bytes kTransposed = transpose();

// Where the bytes of eight lines find their bits in qwords whose bytes are lines, to have them at
// kPlace.
struct Starts {
  Bytes line[8];
};
constexpr Starts starts_for(int place) {
  Starts starts{};
  for (int line = 0; line < 8; ++line)
    for (int byte = 0; byte < 64; ++byte)
      starts.line[line].byte[byte] = static_cast<uint8_t>((8 * line + byte % 8 - place) & 63);
  return starts;
}
template <int kPlace>
constexpr Starts kStarts = starts_for(kPlace);

// levels(Code::kW3) + 7 by indices whose two low bits are at kLow and whose third is at kThird;
// other bits count for nothing.
constexpr Bytes levels_w3(int low, int third) {
  constexpr uint8_t kLevels[8] = {0, 3, 5, 6, 8, 9, 11, 14};
  Bytes table{};
  for (int i = 0; i < 64; ++i) table.byte[i] = kLevels[(i >> low & 3) | (i >> third & 1) << 2];
  return table;
}
template <int kLow, int kThird>
constexpr Bytes kLevelsW3 = levels_w3(kLow, kThird);

struct Vector {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kBytes = 64, kLanes = 16;
  static constexpr int kTokensAtOnce = 8;            // 16 of the 32 registers are sums
  static constexpr int kTokensAtOnceWithFloats = 6;  // 24 of 32: sums and the floats they join

  static constexpr bool kTimes16 = true;

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
  static Ints divide16(Ints v) { return _mm512_srai_epi32(v, 4); }
  static Ints multiply(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }

  // The lines of a tile as level + offset. kTimes16: the upper half's sixteen times that.
  template <Code C, bool kTimes16 = false>
  class Tile {
   public:
    Tile(const uint8_t* codes, int /*part*/) : codes_(codes) {
      if constexpr (C == Code::kW3) load_plane1(codes + kPlane2Bytes);
      if constexpr (C == Code::kW5) load_plane1(codes + kPlane4Bytes);
    }

    Ints index(int line) const {
      if constexpr (C == Code::kW3) {
        return level_w3(index_w3(line), line);
      } else if constexpr (C == Code::kW4 || C == Code::kW4x) {
        return plane4<kTimes16>(codes_, line);
      } else if constexpr (C == Code::kW5) {
        const Ints all = select(_mm512_set1_epi8(15), plane4(codes_, line), plane1<4>(line));
        return _mm512_and_si512(all, _mm512_set1_epi8(31));
      } else if constexpr (C == Code::kW6) {
        const Ints stored = _mm512_loadu_si512(codes_ + kPlane4Bytes + 64 * (line % 4));
        const int shift = 4 - 2 * (line / 4);  // the line's two bits to places 4 and 5
        const Ints high =
            shift >= 0 ? _mm512_slli_epi16(stored, shift) : _mm512_srli_epi16(stored, -shift);
        return merge(plane4(codes_, line), high, _mm512_set1_epi8(0x30));
      } else if constexpr (vnni::kTrellisBits<C> > 0) {
        return trellis_line<vnni::kTrellisBits<C>>(codes_, line);
      } else {
        static_assert(C == Code::kW8 || C == Code::kW8x);
        return _mm512_xor_si512(_mm512_loadu_si512(codes_ + 64 * line), _mm512_set1_epi8(-128));
      }
    }
    // The same with an index's bits flipped before its level is looked up.
    Ints flipped(int line, Ints flip) const {
      if constexpr (C == Code::kW3)
        return level_w3(_mm512_xor_si512(index_w3(line), flip), line);
      else
        return _mm512_xor_si512(index(line), flip);
    }

   private:
    // Of each half's eight lines: byte j of a qword is line j's.
    void load_plane1(const uint8_t* plane) {
      const Ints transposed = _mm512_load_si512(kTransposed.byte);
      for (int half = 0; half < 2; ++half)
        bits_[half] = _mm512_permutexvar_epi8(transposed, _mm512_loadu_si512(plane + 64 * half));
    }
    // Each byte has its bit of the line at kPlace, and others' bits in the other places.
    template <int kPlace>
    Ints plane1(int line) const {
      return _mm512_multishift_epi64_epi8(_mm512_load_si512(kStarts<kPlace>.line[line % 8].byte),
                                          bits_[line / 8]);
    }
    // The three bits of an index at the places of w3_place(line); elsewhere others' bits. vpermb
    // looks at places 0 to 5, so that only a quarter of the lines need shifting.
    Ints index_w3(int line) const {
      const Ints stored = _mm512_loadu_si512(codes_ + 64 * (line % 4));
      if (line / 4 == 0) return select(_mm512_set1_epi8(0x03), stored, plane1<3>(line));
      if (line / 4 == 1) return select(_mm512_set1_epi8(0x0c), stored, plane1<4>(line));
      if (line / 4 == 2) return select(_mm512_set1_epi8(0x30), stored, plane1<3>(line));
      return select(_mm512_set1_epi8(0x0c), _mm512_srli_epi16(stored, 4), plane1<4>(line));
    }
    static Ints level_w3(Ints index, int line) {
      const Bytes& table = line / 4 == 0   ? kLevelsW3<0, 3>
                           : line / 4 == 2 ? kLevelsW3<4, 3>
                                           : kLevelsW3<2, 4>;
      return _mm512_permutexvar_epi8(index, _mm512_load_si512(table.byte));
    }

    const uint8_t* codes_;
    Ints bits_[2];
  };

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
    constexpr int kIndexBits = C == Code::kW3 ? 0xff : 2 * kOffset - 1;
    Ints surplus = _mm512_mullo_epi32(magnitude, _mm512_set1_epi32(kOffset));
    if constexpr (C != Code::kW3)  // reversed indices are one less above reversed levels
      surplus = _mm512_mask_sub_epi32(surplus, negative, surplus, magnitude);
    const Ints bias = _mm512_sub_epi32(_mm512_set1_epi32(kZero), surplus);
    return {_mm512_mask_set1_epi32(zero, negative, static_cast<int>(kIndexBits * 0x01010101u)),
            _mm512_or_si512(magnitude, _mm512_slli_epi32(magnitude, 16)),
            _mm512_shuffle_epi8(bias, _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0))};
  }
  // level * multiplier + kZero of a tile's line.
  template <Code C>
  static Ints scaled(const Tile<C>& tile, int line, const Factors& f) {
    return _mm512_add_epi8(_mm512_mullo_epi16(tile.flipped(line, f.flip), f.words), f.bias);
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
  // a where the mask's bits are set, b elsewhere; b's register becomes the result's.
  static Ints select(Ints mask, Ints a, Ints b) {
    return _mm512_ternarylogic_epi32(b, a, mask, (0xaa & 0xcc) | (~0xaa & 0xf0));
  }
  // Bits of 16 rows of two groups.
  static __mmask32 row_masks(const uint8_t* four_bytes) {
    uint32_t bits;
    std::memcpy(&bits, four_bytes, sizeof bits);
    return _cvtu32_mask32(bits);
  }
};

}  // namespace
}  // namespace lapidary::avx512
