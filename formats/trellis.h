// Trellis codes: K bits for each weight, yet 256 levels, because a weight's level depends on its
// own K bits and on those of the steps after it.
//
// A sequence of n steps (256 in panels) has one symbol of K bits for each step. The state of step t
// is 12 bits, the symbols t, t + 1, ... with t's own in the lowest bits, and the sequence is a
// ring:
//
//   state(t) = sum over i of symbol((t + i) mod n) << (K i), modulo 2^12
//   level(t) = kTrellisLevels[(state(t) * factor(K) modulo 2^12) >> 4]
//
// Stored as a little-endian string of bits, symbol t at bit K t, the state is thus simply the 12
// bits from bit K t on: any weight can be decoded alone. In lanes of 16 bits the product with
// factor << 4 drops the four surplus bits of a 16-bit window and leaves the level's number in the
// upper byte.
//
// Why this code: sequences that differ in one symbol differ in a few neighbouring weights, so a
// search over whole sequences finds far better ones than rounding weight by weight: a Gaussian's
// squared error is 1.15 (K = 3) to 1.5 (K = 6) times the least that any code of that size can have
// (2^-2K), where 2.2 to 3 is what the w codes reach. The trellis is that of QTIP (arXiv 2406.11235,
// section 3.1), tail-biting as in EXL3. The level is theirs no more: a linear map modulo 2^12 and
// normal quantiles beat a hash, at 2^12 states, by 5 to 8 %. factor(K) has the least error of all
// odd numbers, found by trying them.
#pragma once

#include <cstdint>
#include <span>

namespace lapidary {

inline constexpr int kTrellisStateBits = 12;
inline constexpr int kTrellisStates = 1 << kTrellisStateBits;
inline constexpr int kTrellisBlockK = 16;      // inputs of a panel's sequence, of 16 rows
inline constexpr int kTrellisSteps = 256;      // of a panel's sequence
inline constexpr int kTrellisMostSteps = 512;  // of a row table's, which is one scale block

// Quantiles of the normal distribution, its tails stretched to 3.6 deviations; odd: level 255 - i
// is minus level i.
extern const int8_t kTrellisLevels[256];
inline constexpr float kTrellisDeviation = 36.9f;  // of the levels

// K = 3 to 6.
constexpr uint32_t trellis_factor(int bits) {
  return bits == 3 ? 0x5f7 : bits == 4 ? 0x0f9 : bits == 5 ? 0x67f : 0x5c5;
}

inline int8_t trellis_level(int bits, uint32_t state) {
  return kTrellisLevels[(state * trellis_factor(bits) & (kTrellisStates - 1)) >> 4];
}

// Levels [n] of a ring of symbols [n], each below 2^bits; n >= 4.
void trellis_levels(int bits, std::span<const uint8_t> symbols, std::span<int8_t> levels);

}  // namespace lapidary
