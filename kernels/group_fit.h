// One group of weights as scale times integers, least squares. private to export/.
//
// Sums run in eight lanes that a compiler can keep in vectors; their order is fixed, so results are
// the same everywhere.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
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

inline constexpr size_t kLanes = 8;
struct LaneSum {
  float lanes[kLanes] = {};
  float total() const {
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    return sum;
  }
};

inline float largest_by_magnitude(std::span<const float> x) {
  float largest = 0;
  for (const float v : x)
    if (std::abs(v) > std::abs(largest)) largest = v;
  return largest;
}

// x ~ scale * q with q in [low, high], low < 0: tries scales around the one that just holds the
// largest value, and for each the best scale for its integers (sum xq / sum qq).
// REQUIRES: a multiple of 8 values.
inline float fit_symmetric(std::span<const float> x, int low, int high) {
  const float largest = largest_by_magnitude(x);
  if (largest == 0) return 0;
  const float lowest_q = static_cast<float>(low), highest_q = static_cast<float>(high);
  float best_scale = 0, best_gain = -1;  // sum x^2 less the squared error
  for (int step = -8; step <= 8; ++step) {
    // The side with one more level takes the largest value, whatever its sign.
    const float inverse = (lowest_q + 0.11f * static_cast<float>(step)) / largest;
    if (!std::isfinite(inverse)) return 0;  // all values below what a float can divide by
    LaneSum xq, qq;
    for (size_t i = 0; i < x.size(); i += kLanes)
      for (size_t l = 0; l < kLanes; ++l) {
        const float q = nearest(clamped(x[i + l] * inverse, lowest_q, highest_q));
        xq.lanes[l] += x[i + l] * q;
        qq.lanes[l] += q * q;
      }
    const float product = xq.total(), square = qq.total();
    if (square > 0 && product / square * product > best_gain) {
      best_gain = product / square * product;
      best_scale = product / square;
    }
  }
  return best_scale;
}

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

// x ~ scale * level, of the levels of IQ4_NL.
inline float fit_iq4(std::span<const float> x) {
  const float largest = largest_by_magnitude(x);
  float scale = 0, best_gain = -1;
  for (int step = 0; step < 18 && largest != 0; ++step) {
    // The largest value at either end of the levels, or up to a quarter inside or beyond.
    const float end = step < 9 ? -127.0f - 5.0f * static_cast<float>(step - 4)
                               : 113.0f + 5.0f * static_cast<float>(step - 13);
    const float inverse = end / largest;
    if (!std::isfinite(inverse)) break;
    float xq = 0, qq = 0;
    for (const float v : x) {
      const float level = kIq4Levels[nearest_iq4(v * inverse)];
      xq += v * level;
      qq += level * level;
    }
    if (xq / qq * xq > best_gain) {
      best_gain = xq / qq * xq;
      scale = xq / qq;
    }
  }
  return scale;
}

struct ScaleAndMinimum {
  float scale = 0, minimum = 0;  // x ~ scale * q - minimum, minimum >= 0
};

// q in [0, high]. Tries ranges around the whole one, and for each the best line through its
// integers. REQUIRES: a multiple of 8 values.
inline ScaleAndMinimum fit_affine(std::span<const float> x, int high) {
  const auto [lowest, highest] = std::minmax_element(x.begin(), x.end());
  const float low = std::min(*lowest, 0.0f), highest_q = static_cast<float>(high);
  if (*highest <= low) return {0, -low};
  float sx = 0;
  for (const float v : x) sx += v;
  const double n = static_cast<double>(x.size());
  ScaleAndMinimum best;
  double best_error = 0;  // less sum x^2, which is the same for all
  for (int step = -7; step <= 7; ++step) {
    const float inverse = (highest_q + 0.14f * static_cast<float>(step)) / (*highest - low);
    if (!std::isfinite(inverse)) return {0, -low};
    LaneSum q_sum, qq_sum, xq_sum;
    for (size_t i = 0; i < x.size(); i += kLanes)
      for (size_t l = 0; l < kLanes; ++l) {
        const float q = nearest(clamped((x[i + l] - low) * inverse, 0.0f, highest_q));
        q_sum.lanes[l] += q;
        qq_sum.lanes[l] += q * q;
        xq_sum.lanes[l] += x[i + l] * q;
      }
    const double sq = q_sum.total(), sqq = qq_sum.total(), sxq = xq_sum.total();
    if (sqq == 0) continue;
    const double determinant = n * sqq - sq * sq;
    double scale = 0, offset = 1;
    if (determinant > 0) {
      scale = (n * sxq - sq * sx) / determinant;
      offset = (sx - scale * sq) / n;
    }
    if (offset > 0) {  // a minimum is subtracted, never added; nor are all integers alike
      offset = 0;
      scale = sxq / sqq;
    }
    const double error =
        scale * (scale * sqq - 2 * sxq + 2 * offset * sq) + offset * (offset * n - 2 * sx);
    if (error < best_error) {
      best_error = error;
      best = {static_cast<float>(scale), static_cast<float>(-offset)};
    }
  }
  return best;
}

}  // namespace lapidary
