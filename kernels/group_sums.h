// Sums of int8 activations over groups of 32, which weights that are stored unsigned take off their
// products (kernels.h, Int8Activations). For files compiled with AVX2 at least.
#pragma once

#include <immintrin.h>

#include "formats/packed_matrix.h"

namespace lapidary {
namespace {  // each file its own: its functions must not be shared between instruction sets

// sums[group] of n values of q, a multiple of 64.
inline void sum_groups(const int8_t* q, int64_t n, int32_t* sums) {
  constexpr int kTogether = 4;
  const __m256i ones = _mm256_set1_epi8(1), word_ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < n; i += kTogether * kGroupK) {
    __m256i group[kTogether] = {};
    const bool whole = i + kTileK < n;
    for (int g = 0; g < (whole ? kTogether : kTileK / kGroupK); ++g) {
      const auto* p = reinterpret_cast<const __m256i*>(q + i + g * kGroupK);
      group[g] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, _mm256_loadu_si256(p)), word_ones);
    }
    const __m256i quarters = _mm256_hadd_epi32(_mm256_hadd_epi32(group[0], group[1]),
                                               _mm256_hadd_epi32(group[2], group[3]));
    const __m128i totals =
        _mm_add_epi32(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256(quarters, 1));
    auto* out = reinterpret_cast<__m128i*>(sums + i / kGroupK);
    if (whole)
      _mm_storeu_si128(out, totals);
    else
      _mm_storel_epi64(out, totals);
  }
}

}  // namespace
}  // namespace lapidary
