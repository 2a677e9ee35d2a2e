// Groups of weights as scale times integers: the search for scales of least squared error.
//
//   symmetric   x ~ scale * q, q from low to high: scales around the one whose lowest level is the
//               value of largest magnitude
//   affine      x ~ scale * q - minimum, q from 0 to high: ranges around the whole one
//   iq4         x ~ scale * level of IQ4_NL: scales that put the value of largest magnitude at
//               either end of the levels, or up to a quarter inside or beyond
//
// Each scale tried gives integers, and those the scale, or the line, that fits them best. The rule
// is written down in reference_group_fit.cpp, for one group; vector files take a group per lane.
// Sums with q as a factor alone are exact; of other sums the order is fixed, so that every table
// finds the same scales.
#pragma once

#include <cstdint>

namespace lapidary {

// Value i of group g is x[g * group_stride + i * value_stride]; one of the strides is 1.
// REQUIRES: finite values, n a multiple of 8, n * q^2 at most 2^24 for the largest integer.
struct ValueGroups {
  const float* x;
  int64_t group_stride, value_stride;
  int n;
  int64_t n_groups;
  float* scratch;  // [fit_scratch_floats(n)]
};
// x[n_groups][n].
inline ValueGroups adjacent_groups(const float* x, int n, int64_t n_groups, float* scratch) {
  return {x, n, 1, n, n_groups, scratch};
}
// Sixteen groups at a time, a transposed tile of which may end 8 values late.
constexpr int64_t fit_scratch_floats(int n) { return (int64_t{n} + 8) * 16; }

// Levels that the scales tried move the outermost one by: stride * -reach .. stride * reach.
constexpr int kSymmetricReach = 8, kAffineReach = 7;
constexpr float kSymmetricStride = 0.11f, kAffineStride = 0.14f;
// Levels that the value of largest magnitude takes.
constexpr float kIq4Ends[] = {-107, -112, -117, -122, -127, -132, -137, -142, -147,
                              93,   98,   103,  108,  113,  118,  123,  128,  133};

}  // namespace lapidary
