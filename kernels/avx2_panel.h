// Packed lines in 32-byte vectors: half a line of a panel each, a lane per row. For the integer
// products of AVX2 with VNNI and without, which differ in `Dot`: its dot(sum, u8, s8) adds to each
// of eight sums the products of four neighbouring bytes, the first unsigned. vnni_matmul.h says
// what it wants of a vector type.
//
// Everything is anonymous, so that each file has its own.
#pragma once

#include "kernels/avx2_decode.h"
#include "kernels/vnni_task.h"

namespace lapidary::avx2 {
namespace {

template <class Dot>
struct PanelVector {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kBytes = 32, kLanes = 8;
  static constexpr int kTokensAtOnce = 6;            // 12 of the 16 registers are sums
  static constexpr int kTokensAtOnceWithFloats = 3;  // 12 of 16: sums and the floats they join

  static constexpr bool kTimes16 = false;

  static Ints set(int32_t v) { return _mm256_set1_epi32(v); }
  static Floats set(float v) { return _mm256_set1_ps(v); }
  static Ints load(const uint8_t* p) { return load_bytes(p); }
  static void store(uint8_t* p, Ints v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static Floats load_floats(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static Floats load_rows(const float* p, int64_t n) {
    return n >= kLanes ? _mm256_loadu_ps(p) : n > 0 ? load_partial(p, n) : set(0.0f);
  }
  static void store_rows(float* p, int64_t n, Floats v) {
    if (n >= kLanes)
      _mm256_storeu_ps(p, v);
    else if (n > 0)
      store_partial(p, n, v);
  }
  static Ints broadcast4(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static Ints dot(Ints sum, Ints u8, Ints s8) { return Dot::dot(sum, u8, s8); }
  static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints divide16(Ints v) { return _mm256_srai_epi32(v, 4); }
  static Ints multiply(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }

  // Halves of a tile's lines as level + offset.
  template <Code C, bool kTimes16 = false>
  struct Tile {
    static_assert(!kTimes16);
    const uint8_t* codes;
    int part;
    Tile(const uint8_t* codes, int part) : codes(codes), part(part) {}

    Ints index(int line) const {
      if constexpr (C == Code::kW3) {
        const Ints table = _mm256_set1_epi64x(0x0e0b090806050300);  // levels(Code::kW3) + 7
        return _mm256_shuffle_epi8(table, w3_index(codes, line, kBytes * part));
      }
      return _mm256_add_epi8(decode_half_line<C>(codes, line, kBytes * part),
                             _mm256_set1_epi8(static_cast<char>(vnni::kOffset<C>)));
    }
  };

  // Eight of the 16 signed multipliers of each group of a tile.
  template <Code C>
  static void multipliers(const PanelParts& parts, int64_t tile, int part, Ints (&out)[2]) {
    constexpr int kLargest = C == Code::kW3 ? 18 : C == Code::kW5 ? 7 : 15;
    const __m256i bytes = load_multipliers(parts, tile, kLargest);
    const __m128i halves[] = {_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)};
    for (int half = 0; half < 2; ++half)
      out[half] =
          _mm256_cvtepi8_epi32(part == 0 ? halves[half] : _mm_srli_si128(halves[half], kLanes));
  }

  // What turns a row's indices into level * multiplier + 128: negative multipliers reverse the
  // order of the levels, so that all products are positive and fit a byte.
  struct Factors {
    Ints flip;   // an index's bits where the multiplier is negative; for w3 -1 there, else 1
    Ints words;  // the magnitude, twice 16 bits
    Ints bias;   // 128 - (what indices, flipped or not, are above levels) * magnitude, four times
  };
  template <Code C>
  static Factors factors(Ints multipliers) {
    constexpr int kOffset = vnni::kOffset<C>;
    const Ints magnitude = _mm256_abs_epi32(multipliers);
    const Ints negative = _mm256_srai_epi32(multipliers, 31);
    constexpr int kIndexBits = 2 * kOffset - 1;
    Ints surplus = _mm256_mullo_epi32(magnitude, _mm256_set1_epi32(kOffset));
    Ints flip = _mm256_and_si256(negative, _mm256_set1_epi8(kIndexBits));
    if constexpr (C == Code::kW3)
      flip = _mm256_or_si256(negative, _mm256_set1_epi8(1));
    else  // reversed indices are one less above reversed levels
      surplus = _mm256_sub_epi32(surplus, _mm256_and_si256(magnitude, negative));
    const Ints four_times = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c,  //
                                              0, 0x04040404, 0x08080808, 0x0c0c0c0c);
    return {flip, _mm256_or_si256(magnitude, _mm256_slli_epi32(magnitude, 16)),
            _mm256_shuffle_epi8(_mm256_sub_epi32(_mm256_set1_epi32(128), surplus), four_times)};
  }
  // level * multiplier + 128 of half a tile's line.
  template <Code C>
  static Ints scaled(const Tile<C>& tile, int line, const Factors& f) {
    Ints bytes;
    if constexpr (C == Code::kW3)
      bytes = _mm256_add_epi8(
          _mm256_sign_epi8(decode_half_line<C>(tile.codes, line, kBytes * tile.part), f.flip),
          _mm256_set1_epi8(vnni::kOffset<C>));
    else
      bytes = _mm256_xor_si256(tile.index(line), f.flip);
    return _mm256_add_epi8(_mm256_mullo_epi16(bytes, f.words), f.bias);
  }

  static Floats load_scales(const PanelParts& parts, ScaleType type, int64_t block, int part) {
    return avx2::load_scales(parts, type, block, kLanes * part);
  }
};

}  // namespace
}  // namespace lapidary::avx2
