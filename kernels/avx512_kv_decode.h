// A unit of a packed page (formats/kv_page.h) in two registers: lines A and B, a level per byte.
//
// 3 and 5 bits: bytes are spread so that 8 indices lie in each 64-bit word, vpmultishiftqb puts
// each index into a byte, vpermb looks it up. vpermb reads 6 bits of an index; where fewer are
// meant, the table is repeated.
#pragma once

#include "formats/kv_page.h"
#include "kernels/avx512_vector.h"

namespace lapidary::avx512 {
namespace {

struct Lines {
  __m512i a, b;
};

struct alignas(64) BytePattern {
  uint8_t at[64];
};
// Byte 8 w + j from byte `bits` w + j, j < bits; and the start of index j in its word.
constexpr BytePattern spread_pattern(int bits) {
  BytePattern p{};
  for (int i = 0; i < 64; ++i)
    p.at[i] = static_cast<uint8_t>(i % 8 < bits ? i / 8 * bits + i % 8 : 0);
  return p;
}
constexpr BytePattern shift_pattern(int bits) {
  BytePattern p{};
  for (int i = 0; i < 64; ++i) p.at[i] = static_cast<uint8_t>(i % 8 * bits);
  return p;
}

template <int Bits>
__m512i indices(const uint8_t* p) {
  static constexpr BytePattern kSpread = spread_pattern(Bits), kShift = shift_pattern(Bits);
  const __m512i words =
      _mm512_permutexvar_epi8(_mm512_load_si512(kSpread.at), _mm512_loadu_si512(p));
  return _mm512_multishift_epi64_epi8(_mm512_load_si512(kShift.at), words);
}

// The levels of a code as tables for vpermb; keys have 128 added.
template <KvCode C, bool kKeys>
struct Decoder {
  __m512i first, second;  // 3 bits: the two coordinates

  Decoder() {
    first = second = _mm512_setzero_si512();
    if constexpr (C == KvCode::k3Bit) {
      const __m512i low = _mm512_loadu_si512(kv_levels(C));
      const __m512i high = _mm512_loadu_si512(kv_levels(C) + 64);
      const __m512i even = _mm512_and_si512(low, _mm512_set1_epi16(255));
      const __m512i even_high = _mm512_and_si512(high, _mm512_set1_epi16(255));
      first = bytes_of_words(even, even_high);
      second = bytes_of_words(_mm512_srli_epi16(low, 8), _mm512_srli_epi16(high, 8));
    } else if constexpr (C == KvCode::k4Bit) {
      first =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kv_levels(C))));
    } else if constexpr (C == KvCode::k5Bit) {
      first = _mm512_broadcast_i64x4(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kv_levels(C))));
    }
    if constexpr (kKeys) {
      first = _mm512_xor_si512(first, _mm512_set1_epi8(-128));
      second = _mm512_xor_si512(second, _mm512_set1_epi8(-128));
    }
  }
  static __m512i bytes_of_words(__m512i low, __m512i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(low)),
                              _mm512_cvtepi16_epi8(high), 1);
  }

  Lines operator()(const uint8_t* unit) const {
    if constexpr (C == KvCode::kInt8) {
      return {_mm512_loadu_si512(unit), _mm512_loadu_si512(unit + 64)};
    } else if constexpr (C == KvCode::k5Bit) {
      return {_mm512_permutexvar_epi8(indices<5>(unit), first),
              _mm512_permutexvar_epi8(indices<5>(unit + 40), first)};
    } else if constexpr (C == KvCode::k4Bit) {
      const __m512i both = _mm512_loadu_si512(unit);
      return {_mm512_permutexvar_epi8(both, first),
              _mm512_permutexvar_epi8(_mm512_srli_epi16(both, 4), first)};
    } else {
      const __m512i pairs = indices<6>(unit);
      return {_mm512_permutexvar_epi8(pairs, first), _mm512_permutexvar_epi8(pairs, second)};
    }
  }
};

template <KvCode C>
constexpr int kUnitBytes = C == KvCode::kInt8   ? 128
                           : C == KvCode::k5Bit ? 80
                           : C == KvCode::k4Bit ? 64
                                                : 48;

// f.operator()<C>() for the code at hand.
template <class F>
void with_code(KvCode code, F f) {
  if (code == KvCode::kInt8)
    f.template operator()<KvCode::kInt8>();
  else if (code == KvCode::k5Bit)
    f.template operator()<KvCode::k5Bit>();
  else if (code == KvCode::k4Bit)
    f.template operator()<KvCode::k4Bit>();
  else
    f.template operator()<KvCode::k3Bit>();
}

}  // namespace
}  // namespace lapidary::avx512
