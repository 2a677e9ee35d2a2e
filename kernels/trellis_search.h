// What the search for a trellis code's symbols shares between instruction sets.
//
// Viterbi's algorithm over the 2^12 states of formats/trellis.h, from the last step to the first:
// the costs of all histories (the upper 12 - K bits of a state) before a step become those after
// it, each the least over the 2^K states that lead there. No decisions are kept: walking back, the
// few states that lead to a history are tried again.
//
// A ring has no start, so one is found first: a search over the 64 steps around the seam, with any
// history at its ends, tells which history to cross the seam with; then the whole ring is searched
// with that one at both ends. The loss against trying all of them is below a thousandth.
#pragma once

#include <cstdint>

#include "formats/trellis.h"

namespace lapidary {

inline constexpr int kSeamSteps = 32;  // on each side of it, or half the ring

constexpr int trellis_histories(int bits) { return kTrellisStates >> bits; }
// Scratch for a ring of n steps, in floats: the costs before each step and after the last.
constexpr int64_t trellis_scratch_floats(int bits, int n) {
  return int64_t{n + 1} * trellis_histories(bits);
}
inline constexpr float kNeverCost = 1e30f;  // of a history that must not be

// Levels as floats [2^12], by state.
const float* trellis_values(int bits);

}  // namespace lapidary
