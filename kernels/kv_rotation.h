// The signs of the KV rotation, and its shape, shared by every instruction set's file.
//
//   x -> W(S1 x)                              n a power of two
//   x -> W_last(S2_last W_first(S1 x))        else: the first and the last p values, p the largest
//                                             power of two below n, which overlap
//
// W is the orthonormal Walsh-Hadamard transform (butterflies at distance 1, 2, 4, ..., then times
// 1 / sqrt(p)), S1 and S2 are fixed signs. Two overlapping transforms mix heads of 80 or 96 as
// whole vectors where blocks would leave a part of 16 or 32 to itself.
#pragma once

#include <cstdint>

namespace lapidary {

inline constexpr int kMaxKvRotation = 1024;

struct KvSigns {
  uint64_t negative[2][kMaxKvRotation / 64];  // bit i % 64 of word i / 64: value i changes sign
};

// Bits of splitmix64 (Steele, Lea & Flood, «Fast splittable pseudorandom number generators», 2014).
constexpr KvSigns make_kv_signs() {
  KvSigns signs{};
  uint64_t state = 0;
  for (auto& words : signs.negative)
    for (uint64_t& word : words) {
      uint64_t z = state += 0x9e3779b97f4a7c15u;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
  return signs;
}
static constexpr KvSigns kKvSigns = make_kv_signs();

static inline int kv_rotation_power(int n) {
  int power = 1;
  while (2 * power <= n) power *= 2;
  return power;
}

// 1 / sqrt(p), correctly rounded for each power.
static inline float kv_rotation_factor(int power) {
  float factor = power & 0x2aaaaaaa ? 0x1.6a09e6p-1f : 1.0f;  // odd exponents: sqrt(1/2)
  for (; power >= 4; power /= 4) factor *= 0.5f;
  return factor;
}

}  // namespace lapidary
