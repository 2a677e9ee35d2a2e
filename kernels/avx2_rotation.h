// The two halves of the rotation of 64 floats, with the reference's butterflies in its order.
#pragma once

#include "formats/packed_matrix.h"
#include "kernels/avx2_vector.h"

namespace lapidary::avx2 {

static inline void apply_rotation_signs(float* x) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (int i = 0; i < kTileK; i += kLanes) {
    const __m256i signs = _mm256_set1_epi32(static_cast<int>(kRotationSigns >> i & 255));
    const __m256i negated = _mm256_cmpeq_epi32(_mm256_and_si256(signs, bit), bit);
    const __m256 flip = _mm256_and_ps(_mm256_castsi256_ps(negated), _mm256_set1_ps(-0.0f));
    _mm256_storeu_ps(x + i, _mm256_xor_ps(_mm256_loadu_ps(x + i), flip));
  }
}

// Inside a vector, lane i of a butterfly is partner + x where the distance's bit of i is clear, and
// partner - x where it is set.
static inline void walsh_hadamard_64(float* x) {
  const __m256 flip1 = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
  const __m256 flip2 = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
  const __m256 flip4 = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
  constexpr int kVectors = kTileK / kLanes;
  __m256 v[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    __m256 a = _mm256_loadu_ps(x + kLanes * i);
    a = _mm256_add_ps(_mm256_permute_ps(a, 0b10110001), _mm256_xor_ps(a, flip1));
    a = _mm256_add_ps(_mm256_permute_ps(a, 0b01001110), _mm256_xor_ps(a, flip2));
    v[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, a, 1), _mm256_xor_ps(a, flip4));
  }
#pragma GCC unroll 3
  for (int distance = 1; distance < kVectors; distance *= 2)
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i)
      if ((i & distance) == 0) {
        const __m256 a = v[i], b = v[i + distance];
        v[i] = _mm256_add_ps(a, b);
        v[i + distance] = _mm256_sub_ps(a, b);
      }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i)
    _mm256_storeu_ps(x + kLanes * i, _mm256_mul_ps(v[i], _mm256_set1_ps(0.125f)));
}

}  // namespace lapidary::avx2
