// The search for scales, one group after the other.
#include <algorithm>
#include <cmath>

#include "kernels/group_rounding.h"
#include "kernels/reference.h"

namespace lapidary {
namespace {

constexpr int kLanes = 8;  // of sums, added in their order at the end

struct LaneSum {
  float lanes[kLanes] = {};
  float total() const {
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    return sum;
  }
};

struct Group {
  const float* x;
  int64_t stride;
  int n;

  Group(const ValueGroups& groups, int64_t g)
      : x(groups.x + g * groups.group_stride), stride(groups.value_stride), n(groups.n) {}
  float operator[](int i) const { return x[i * stride]; }
};

float largest_by_magnitude(const Group& x) {
  float largest = 0;
  for (int i = 0; i < x.n; ++i)
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  return largest;
}

float symmetric_scale(const Group& x, float low, float high) {
  const float largest = largest_by_magnitude(x);
  if (largest == 0) return 0;
  float best_scale = 0, best_gain = -1;  // sum x^2 less the squared error
  for (int step = -kSymmetricReach; step <= kSymmetricReach; ++step) {
    // The side with one more level takes the largest value, whatever its sign.
    const float inverse = (low + kSymmetricStride * static_cast<float>(step)) / largest;
    if (!std::isfinite(inverse)) return 0;  // all values below what a float can divide by
    LaneSum xq, qq;
    for (int i = 0; i < x.n; ++i) {
      const float q = nearest(clamped(x[i] * inverse, low, high));
      xq.lanes[i % kLanes] += x[i] * q;
      qq.lanes[i % kLanes] += q * q;
    }
    const float product = xq.total(), square = qq.total();
    if (square > 0 && product / square * product > best_gain) {
      best_gain = product / square * product;
      best_scale = product / square;
    }
  }
  return best_scale;
}

float iq4_scale(const Group& x) {
  const float largest = largest_by_magnitude(x);
  float scale = 0, best_gain = -1;
  for (const float end : kIq4Ends) {
    const float inverse = end / largest;
    if (!std::isfinite(inverse)) break;
    float xq = 0, qq = 0;
    for (int i = 0; i < x.n; ++i) {
      const float level = kIq4Levels[nearest_iq4(x[i] * inverse)];
      xq += x[i] * level;
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
  float scale = 0, minimum = 0;
};

// The minimum is at least 0: it is subtracted, never added.
ScaleAndMinimum best_line(const Group& x, float high) {
  float lowest = x[0], highest = x[0], sx = 0;
  for (int i = 0; i < x.n; ++i) {
    lowest = std::min(lowest, x[i]);
    highest = std::max(highest, x[i]);
    sx += x[i];
  }
  const float low = std::min(lowest, 0.0f);
  if (highest <= low) return {0, -low};
  const double n = x.n;
  ScaleAndMinimum best;
  double best_error = 0;  // less sum x^2, which is the same for all
  for (int step = -kAffineReach; step <= kAffineReach; ++step) {
    const float inverse = (high + kAffineStride * static_cast<float>(step)) / (highest - low);
    if (!std::isfinite(inverse)) return {0, -low};
    LaneSum q_sum, qq_sum, xq_sum;
    for (int i = 0; i < x.n; ++i) {
      const float q = nearest(clamped((x[i] - low) * inverse, 0.0f, high));
      q_sum.lanes[i % kLanes] += q;
      qq_sum.lanes[i % kLanes] += q * q;
      xq_sum.lanes[i % kLanes] += x[i] * q;
    }
    const double sq = q_sum.total(), sqq = qq_sum.total(), sxq = xq_sum.total();
    if (sqq == 0) continue;
    const double determinant = n * sqq - sq * sq;
    double scale = 0, offset = 1;
    if (determinant > 0) {
      scale = (n * sxq - sq * sx) / determinant;
      offset = (sx - scale * sq) / n;
    }
    if (offset > 0) {  // a minimum below 0, or all integers alike
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

}  // namespace

void reference::fit_symmetric(const ValueGroups& groups, int low, int high,
                              float* scales) noexcept {
  for (int64_t g = 0; g < groups.n_groups; ++g)
    scales[g] = symmetric_scale({groups, g}, static_cast<float>(low), static_cast<float>(high));
}

void reference::fit_affine(const ValueGroups& groups, int high, float* scales,
                           float* minima) noexcept {
  for (int64_t g = 0; g < groups.n_groups; ++g) {
    const ScaleAndMinimum line = best_line({groups, g}, static_cast<float>(high));
    scales[g] = line.scale;
    minima[g] = line.minimum;
  }
}

void reference::fit_iq4(const ValueGroups& groups, float* scales) noexcept {
  for (int64_t g = 0; g < groups.n_groups; ++g) scales[g] = iq4_scale({groups, g});
}

}  // namespace lapidary
