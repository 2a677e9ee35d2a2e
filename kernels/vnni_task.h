// What both ways of kernels/vnni_matmul.h share: the codes' numbers, the call, the bases of integer
// sums, and how a finished sum becomes part of a float.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"
#include "kernels/panel.h"

namespace lapidary::vnni {

inline constexpr int kLineBytes = 64;
inline constexpr int kGroupLines = kGroupK / 4;
inline constexpr int kTileGroups = kTileK / kGroupK;
inline constexpr int kTileLines = kTileK / 4;

inline constexpr int64_t kPrefetchBytes = 6144;  // as far ahead as pays on a stream of codes

template <Code C>
inline constexpr bool kTwoLevel = C == Code::kW5 || C == Code::kW4 || C == Code::kW3;
template <Code C>
inline constexpr int kTrellisBits = C == Code::kT3   ? 3
                                    : C == Code::kT4 ? 4
                                    : C == Code::kT5 ? 5
                                    : C == Code::kT6 ? 6
                                                     : 0;  // no trellis code
template <Code C>
inline constexpr int kScaleK = kTwoLevel<C> || kTrellisBits<C> > 0 ? 512
                               : C == Code::kW8 || C == Code::kW6  ? 128
                                                                   : 32;
// What V::index adds to a level.
template <Code C>
inline constexpr int kOffset = C == Code::kW8 || C == Code::kW8x || kTrellisBits<C> > 0 ? 128
                               : C == Code::kW6                                         ? 32
                               : C == Code::kW5                                         ? 16
                               : C == Code::kW3                                         ? 7
                                                                                        : 8;

template <Code C>
inline constexpr int64_t kTileBytes = kTrellisBits<C> > 0                 ? 128 * kTrellisBits<C>
                                      : C == Code::kW8 || C == Code::kW8x ? 1024
                                      : C == Code::kW6                    ? 768
                                      : C == Code::kW5                    ? 640
                                      : C == Code::kW4 || C == Code::kW4x ? 512
                                                                          : 384;

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

static inline void prefetch(const uint8_t* first, int64_t n_bytes) {
  for (int64_t i = 0; i < n_bytes; i += kLineBytes)
    _mm_prefetch(reinterpret_cast<const char*>(first + i), _MM_HINT_T0);
}

namespace {  // each file its own: its functions must not be shared between instruction sets

struct Task {
  const MatrixView& w;
  PackedGeometry g;
  Int8Activations x;
  float* y;
  int64_t ldy;
  const int8_t* input(int64_t token, int64_t k) const { return x.q + token * x.padded_k + k; }
  const float* x_scales(int64_t token, int64_t block) const {
    return x.scales + token * g.n_scale_blocks + block;
  }
  const int32_t* x_sums(int64_t token, int64_t k) const {
    return x.sums + (token * x.padded_k + k) / kGroupK;
  }
};

}  // namespace

// bases[group] = -offset times the sum of the group's 32 inputs, for n_k inputs, a multiple of 64;
// with kOddTimes16 every second one is sixteen times that. Writes groups by fours, so bases wants
// room for kGroupsTogether - 2 more than there are.
inline constexpr int kGroupsTogether = 4;
template <bool kOddTimes16 = false>
static inline void group_bases(const int32_t* sums, int64_t n_k, int offset, int32_t* bases) {
  const int odd = kOddTimes16 ? 16 * offset : offset;
  const __m128i factors = _mm_setr_epi32(-offset, -odd, -offset, -odd);
  const int64_t n = n_k / kGroupK;
  for (int64_t group = 0; group < n; group += kGroupsTogether) {
    const auto* p = reinterpret_cast<const __m128i*>(sums + group);
    const __m128i four = group + 2 < n ? _mm_loadu_si128(p) : _mm_loadl_epi64(p);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bases + group), _mm_mullo_epi32(four, factors));
  }
}

// The same over scale blocks of block_k inputs, 64 or more.
static inline void block_bases(const int32_t* sums, int64_t n_k, int64_t block_k, int offset,
                               int32_t* bases) {
  for (int64_t k = 0; k < n_k; k += block_k) {
    const int64_t n = min(block_k, n_k - k) / kGroupK;
    __m128i four = _mm_setzero_si128();
    for (int64_t group = 0; group < n; group += kGroupsTogether) {
      const auto* p = reinterpret_cast<const __m128i*>(sums + k / kGroupK + group);
      four = _mm_add_epi32(four, group + 2 < n ? _mm_loadu_si128(p) : _mm_loadl_epi64(p));
    }
    const __m128i pair = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    *bases++ = -offset * (_mm_cvtsi128_si32(pair) + _mm_extract_epi32(pair, 1));
  }
}

// y += float(sum) * (weight scale * x scale), each operation rounded.
template <class V>
static inline typename V::Floats add_block(typename V::Floats y, typename V::Ints sum,
                                           typename V::Floats w_scale, float x_scale) {
  return V::add(y, V::multiply(V::to_floats(sum), V::multiply(w_scale, V::set(x_scale))));
}

}  // namespace lapidary::vnni
