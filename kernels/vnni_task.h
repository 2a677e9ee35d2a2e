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
};

}  // namespace

// bases[group] = -offset * sum of x over the group's 32 inputs, for n_k inputs, a multiple of 64;
// with kOddTimes16 every second one is sixteen times that. Writes groups by fours, so bases wants
// room for kGroupsTogether - 2 more than there are.
inline constexpr int kGroupsTogether = 4;
template <bool kOddTimes16 = false>
static inline void sum_groups(const int8_t* x, int64_t n_k, int offset, int32_t* bases) {
  const int odd = kOddTimes16 ? 16 * offset : offset;
  const __m128i factors = _mm_setr_epi32(-offset, -odd, -offset, -odd);
  const __m256i ones = _mm256_set1_epi8(1), word_ones = _mm256_set1_epi16(1);
  for (int64_t k = 0; k < n_k; k += kGroupsTogether * kGroupK) {
    __m256i sums[kGroupsTogether] = {};
    const int n_groups = k + kTileK < n_k ? kGroupsTogether : kTileGroups;
    for (int group = 0; group < n_groups; ++group) {
      const auto* p = reinterpret_cast<const __m256i*>(x + k + group * kGroupK);
      sums[group] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, _mm256_loadu_si256(p)), word_ones);
    }
    const __m256i four =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    const __m128i totals =
        _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bases + k / kGroupK),
                     _mm_mullo_epi32(totals, factors));
  }
}

// The same over scale blocks of sum_k inputs, 64 or more.
template <class V>
static inline void sum_blocks(const int8_t* x, int64_t n_k, int64_t sum_k, int offset,
                              int32_t* bases) {
  const auto ones = V::set(0x01010101);
  for (int64_t block = 0; block * sum_k < n_k; ++block) {
    auto sum = V::set(0);
    const int64_t end = min((block + 1) * sum_k, n_k);
    for (int64_t k = block * sum_k; k < end; k += V::kBytes)
      sum = V::dot(sum, ones, V::load(reinterpret_cast<const uint8_t*>(x + k)));
    bases[block] = -offset * V::sum(sum);
  }
}

// y += float(sum) * (weight scale * x scale), each operation rounded.
template <class V>
static inline typename V::Floats add_block(typename V::Floats y, typename V::Ints sum,
                                           typename V::Floats w_scale, float x_scale) {
  return V::add(y, V::multiply(V::to_floats(sum), V::multiply(w_scale, V::set(x_scale))));
}

}  // namespace lapidary::vnni
