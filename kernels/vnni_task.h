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

inline constexpr int64_t kPrefetchBytes = 8192;  // as far ahead as pays on a stream of codes

template <Code C>
inline constexpr bool kTwoLevel = C == Code::kW5 || C == Code::kW4 || C == Code::kW3;
template <Code C>
inline constexpr int kScaleK = kTwoLevel<C>                       ? 512
                               : C == Code::kW8 || C == Code::kW6 ? 128
                                                                  : 32;
// What V::index adds to a level.
template <Code C>
inline constexpr int kOffset = C == Code::kW8 || C == Code::kW8x ? 128
                               : C == Code::kW6                  ? 32
                               : C == Code::kW5                  ? 16
                                                                 : 8;

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

namespace {  // each file its own: its functions must not be shared between instruction sets

struct Task {
  const MatrixView& w;
  PackedGeometry g;
  Int8Activations x;
  int64_t n_x_scales;
  float* y;
  int64_t ldy;
  const int8_t* input(int64_t token, int64_t k) const { return x.q + token * x.padded_k + k; }
  const float* x_scale(int64_t token, int64_t k) const {
    return x.scales + token * n_x_scales + k / kActivationBlockK;
  }
};

}  // namespace

// bases[k / sum_k] = -offset * sum of x over sum_k inputs, for n_k inputs, a multiple of 64.
static inline void sum_inputs(const int8_t* x, int64_t n_k, int64_t sum_k, int offset,
                              int32_t* bases) {
  const __m256i ones = _mm256_set1_epi8(1), word_ones = _mm256_set1_epi16(1);
  std::memset(bases, 0, static_cast<size_t>((n_k + sum_k - 1) / sum_k) * sizeof *bases);
  for (int64_t k = 0; k < n_k; k += kTileK) {
    __m256i sums[kTileGroups];
    for (int half = 0; half < kTileGroups; ++half) {
      const auto* p = reinterpret_cast<const __m256i*>(x + k + half * kGroupK);
      sums[half] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, _mm256_loadu_si256(p)), word_ones);
    }
    __m256i pairs = _mm256_hadd_epi32(sums[0], sums[1]);
    pairs = _mm256_hadd_epi32(pairs, pairs);
    const __m128i both =
        _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    bases[k / sum_k] -= offset * _mm_extract_epi32(both, 0);
    bases[(k + kGroupK) / sum_k] -= offset * _mm_extract_epi32(both, 1);
  }
}

// y += float(sum) * (weight scale * x scale), each operation rounded.
template <class V>
static inline typename V::Floats add_block(typename V::Floats y, typename V::Ints sum,
                                           typename V::Floats w_scale, float x_scale) {
  return V::add(y, V::multiply(V::to_floats(sum), V::multiply(w_scale, V::set(x_scale))));
}

}  // namespace lapidary::vnni
