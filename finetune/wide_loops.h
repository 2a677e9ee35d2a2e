// Plain loops, compiled for several widths of vectors; which one runs is chosen when they load.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define LAPIDARY_WIDE_LOOPS \
  __attribute__((target_clones("default", "avx2", "avx512f"), optimize("O3")))
#else
#define LAPIDARY_WIDE_LOOPS
#endif

namespace lapidary {

// e^x to about an ulp or two, without branches, so that loops over it become vectors; below -87 it
// stays at e^-87. x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial in r (Cephes' expf).
inline float exp_in_loop(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: the sum's low bits are the integer
  const float shifted = x * 1.44269504f + kRounder;
  const float n = shifted - kRounder;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - 0x4b400000 + 127;
  return p * std::bit_cast<float>(exponent << 23);
}

}  // namespace lapidary
