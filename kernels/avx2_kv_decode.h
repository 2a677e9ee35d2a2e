// Units of a packed page (formats/kv_page.h) as lines of int8 levels, 32 bytes at a time.
//
// 3 and 5 bits: bytes are spread so that whole indices lie in each word, shifted and masked into
// one byte each; tables of more than 16 levels are looked up in parts and blended.
#pragma once

#include "formats/kv_page.h"
#include "kernels/avx2_vector.h"

namespace lapidary::avx2 {
namespace {

__m256i load_ints(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

__m256i load_halves(const uint8_t* p, int distance) {
  return _mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + distance)),
                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// 32 indices of 6 bits from 24 bytes.
__m256i indices6(const uint8_t* p) {
  const __m256i spread = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
  const __m256i w = _mm256_shuffle_epi8(load_halves(p, 12), spread);
  __m256i out = _mm256_and_si256(w, _mm256_set1_epi32(63));
  out = _mm256_or_si256(out, _mm256_and_si256(_mm256_slli_epi32(w, 2), _mm256_set1_epi32(63 << 8)));
  out =
      _mm256_or_si256(out, _mm256_and_si256(_mm256_slli_epi32(w, 4), _mm256_set1_epi32(63 << 16)));
  return _mm256_or_si256(out,
                         _mm256_and_si256(_mm256_slli_epi32(w, 6), _mm256_set1_epi32(63 << 24)));
}

// 32 indices of 5 bits from 20 bytes.
__m256i indices5(const uint8_t* p) {
  const __m256i spread = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 3, 4, -1, -1, -1, 5, 6, 7, 8, 9, -1, -1, -1));
  const __m256i w = _mm256_shuffle_epi8(load_halves(p, 10), spread);
  __m256i out = _mm256_and_si256(w, _mm256_set1_epi64x(31));
#pragma GCC unroll 8
  for (int j = 1; j < 8; ++j)
    out = _mm256_or_si256(
        out, _mm256_and_si256(_mm256_slli_epi64(w, 3 * j), _mm256_set1_epi64x(31LL << (8 * j))));
  return out;
}

// Levels of indices below 16 * Parts; table [Parts][16].
template <int Parts>
__m256i look_up(__m256i index, const int8_t* table) {
  __m256i part[Parts];
#pragma GCC unroll 4
  for (int i = 0; i < Parts; ++i)
    part[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(
                                      reinterpret_cast<const __m128i*>(table + 16 * i))),
                                  index);
  const __m256i bit4 = _mm256_slli_epi16(index, 3), bit5 = _mm256_slli_epi16(index, 2);
  if constexpr (Parts == 1) return part[0];
  const __m256i low = _mm256_blendv_epi8(part[0], part[1], bit4);
  if constexpr (Parts == 2)
    return low;
  else
    return _mm256_blendv_epi8(low, _mm256_blendv_epi8(part[2], part[3], bit4), bit5);
}

// Levels, signed; `biased`: 128 is taken off 8-bit codes.
void decode_units(KvCode code, const uint8_t* units, int n_units, bool biased, uint8_t* lines) {
  alignas(32) int8_t first[64], second[64];
  const __m256i bias = _mm256_set1_epi8(biased ? -128 : 0);
  const __m256i low_bits = _mm256_set1_epi8(15);
  if (code == KvCode::k3Bit)
    for (int i = 0; i < 64; ++i)
      first[i] = kv_levels(code)[2 * i], second[i] = kv_levels(code)[2 * i + 1];
  else if (code != KvCode::kInt8)
    std::memcpy(first, kv_levels(code), code == KvCode::k5Bit ? 32 : 16);
  for (int unit = 0; unit < n_units; ++unit, lines += 128)
    for (int half = 0; half < 64; half += 32) {
      __m256i a, b;
      if (code == KvCode::kInt8) {
        const uint8_t* p = units + 128 * unit + half;
        a = _mm256_xor_si256(load_ints(p), bias);
        b = _mm256_xor_si256(load_ints(p + 64), bias);
      } else if (code == KvCode::k5Bit) {
        const uint8_t* p = units + 80 * unit + half * 5 / 8;
        a = look_up<2>(indices5(p), first);
        b = look_up<2>(indices5(p + 40), first);
      } else if (code == KvCode::k4Bit) {
        const __m256i both = load_ints(units + 64 * unit + half);
        a = look_up<1>(_mm256_and_si256(both, low_bits), first);
        b = look_up<1>(_mm256_and_si256(_mm256_srli_epi16(both, 4), low_bits), first);
      } else {
        const __m256i pairs = indices6(units + 48 * unit + half * 3 / 4);
        a = look_up<4>(pairs, first);
        b = look_up<4>(pairs, second);
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(lines + half), a);
      _mm256_store_si256(reinterpret_cast<__m256i*>(lines + 64 + half), b);
    }
}

}  // namespace
}  // namespace lapidary::avx2
