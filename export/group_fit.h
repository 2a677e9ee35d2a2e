// One group of weights as scale times integers, least squares; private to export/.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

namespace lapidary {

// x ~ scale * q with q in [low, high], low < 0: tries scales around the one that just holds the
// largest value, and for each the best scale for its integers (sum xq / sum qq).
inline float fit_symmetric(std::span<const float> x, int low, int high) {
  float largest = 0;
  for (const float v : x)
    if (std::abs(v) > std::abs(largest)) largest = v;
  if (largest == 0) return 0;
  float best_scale = 0;
  double best_gain = -1;  // sum x^2 less the squared error
  for (int step = -9; step <= 9; ++step) {
    // The side with one more level takes the largest value, whatever its sign.
    const float inverse = (static_cast<float>(low) + 0.1f * static_cast<float>(step)) / largest;
    double xq = 0, qq = 0;
    for (const float v : x) {
      const int q = std::clamp(static_cast<int>(std::lround(v * inverse)), low, high);
      xq += static_cast<double>(v) * q;
      qq += static_cast<double>(q) * q;
    }
    if (qq > 0 && xq * xq > best_gain * qq) {
      best_gain = xq * xq / qq;
      best_scale = static_cast<float>(xq / qq);
    }
  }
  return best_scale;
}

struct ScaleAndMinimum {
  float scale = 0, minimum = 0;  // x ~ scale * q - minimum, minimum >= 0
};

// q in [0, high]. Tries ranges around the whole one, and for each the best line through its
// integers.
inline ScaleAndMinimum fit_affine(std::span<const float> x, int high) {
  const auto [lowest, highest] = std::minmax_element(x.begin(), x.end());
  const float low = std::min(*lowest, 0.0f);
  if (*highest <= low) return {0, -low};
  ScaleAndMinimum best;
  double best_error = -1;
  for (int step = -10; step <= 10; ++step) {
    const float inverse =
        (static_cast<float>(high) + 0.1f * static_cast<float>(step)) / (*highest - low);
    double n = 0, sq = 0, sqq = 0, sx = 0, sxq = 0, sxx = 0;
    for (const float v : x) {
      const int q = std::clamp(static_cast<int>(std::lround((v - low) * inverse)), 0, high);
      n += 1, sq += q, sqq += static_cast<double>(q) * q;
      sx += v, sxq += static_cast<double>(v) * q, sxx += static_cast<double>(v) * v;
    }
    const double determinant = n * sqq - sq * sq;
    if (sqq == 0) continue;
    double scale = 0, offset = 1;
    if (determinant > 0) {
      scale = (n * sxq - sq * sx) / determinant;
      offset = (sx - scale * sq) / n;
    }
    if (offset > 0) {  // a minimum is subtracted, never added; nor are all integers alike
      offset = 0;
      scale = sxq / sqq;
    }
    const double error = sxx - 2 * scale * sxq - 2 * offset * sx + scale * scale * sqq +
                         2 * scale * offset * sq + offset * offset * n;
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = {static_cast<float>(scale), static_cast<float>(-offset)};
    }
  }
  return best;
}

inline int round_clamped(float value, int low, int high) {
  return std::clamp(static_cast<int>(std::lround(value)), low, high);
}

}  // namespace lapidary
