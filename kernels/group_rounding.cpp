// Loops over whole groups, compiled so that the baseline's vectors do them; limits that are no
// constants keep the compiler from branching at them.
#include "kernels/group_rounding.h"

#include <cmath>

namespace lapidary {

void round_group(std::span<const float> x, float offset, float step, int low, int high, int zero,
                 uint8_t* __restrict q) {
  const float lowest = static_cast<float>(low), highest = static_cast<float>(high);
  for (size_t i = 0; i < x.size(); ++i)
    q[i] = static_cast<uint8_t>(
        static_cast<int>(nearest(clamped((x[i] + offset) * step, lowest, highest))) - zero);
}

float largest_magnitude(std::span<const float> x) {
  constexpr size_t kLanes = 8;
  float lanes[kLanes] = {}, largest = 0;
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] = std::max(lanes[l], std::abs(x[i + l]));
  for (; i < x.size(); ++i) largest = std::max(largest, std::abs(x[i]));
  for (const float lane : lanes) largest = std::max(largest, lane);
  return largest;
}

}  // namespace lapidary
