// The nearest integers and levels under a scale that is already chosen.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "formats/ggml_blocks.h"

namespace lapidary {

// The nearest integer, ties to even. REQUIRES: |value| < 2^22.
inline float nearest(float value) {
  constexpr float kMagic = 12582912.0f;  // 1.5 x 2^23: sums with it have no fraction bits
  return (value + kMagic) - kMagic;
}
inline float clamped(float value, float low, float high) {
  return std::min(std::max(value, low), high);
}
inline int round_clamped(float value, int low, int high) {
  return static_cast<int>(
      nearest(clamped(value, static_cast<float>(low), static_cast<float>(high))));
}

// q[i] = the nearest integer to (x[i] + offset) * step within [low, high], less `zero`; as a byte.
void round_group(std::span<const float> x, float offset, float step, int low, int high, int zero,
                 uint8_t* q);
float largest_magnitude(std::span<const float> x);

// Index of the level of IQ4_NL nearest to each integer from -128 to 127. Midpoints between levels
// are whole or half numbers, so rounding to an integer first moves a decision by half a unit at
// most.
inline constexpr std::array<uint8_t, 256> kNearestIq4 = [] {
  std::array<uint8_t, 256> table{};
  for (int value = -128; value < 128; ++value) {
    const auto distance = [&](uint8_t i) {
      return kIq4Levels[i] < value ? value - kIq4Levels[i] : kIq4Levels[i] - value;
    };
    uint8_t& best = table[static_cast<size_t>(value + 128)];
    for (uint8_t i = 1; i < 16; ++i)
      if (distance(i) < distance(best)) best = i;
  }
  return table;
}();
inline uint8_t nearest_iq4(float value) {
  return kNearestIq4[static_cast<size_t>(round_clamped(value, -128, 127) + 128)];
}

}  // namespace lapidary
