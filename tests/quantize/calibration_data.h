// Inputs that go together, weights, and a factor as doubles: what the tests of calibration share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "quantize/block_rounder.h"
#include "quantize/factor.h"

namespace lapidary {

// Inputs that go together: a few common factors plus noise, [n_rows, n].
inline std::vector<float> correlated_rows(int64_t n_rows, int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  constexpr int kFactors = 6;
  std::vector<float> mix(static_cast<size_t>(kFactors * n));
  for (float& m : mix) m = normal(random);
  std::vector<float> x(static_cast<size_t>(n_rows * n));
  for (int64_t t = 0; t < n_rows; ++t) {
    float common[kFactors];
    for (float& c : common) c = normal(random);
    for (int64_t i = 0; i < n; ++i) {
      float sum = 0.5f * normal(random);
      for (int f = 0; f < kFactors; ++f) sum += common[f] * mix[f * n + i];
      x[t * n + i] = sum;
    }
  }
  return x;
}

inline std::vector<float> random_weights(int64_t rows, int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> w(static_cast<size_t>(rows * k));
  for (float& value : w) value = normal(random);
  return w;
}

inline Hessian hessian_of(const std::vector<float>& x, int64_t n, bool rotated, ThreadPool& pool) {
  Hessian h(n, rotated);
  FloatMatrix scratch;
  EXPECT_TRUE(h.add(x.data(), static_cast<int64_t>(x.size()) / n, nullptr, scratch, pool));
  return h;
}

// Lower L (unit) of the factor, as doubles, and the damped H it stands for.
inline double at(const Factor& f, int64_t i, int64_t j) {
  return i == j ? 1.0 : double{f.matrix.row(i)[j]};
}

// Weights [rows, k] as strips in the stored basis.
inline FloatMatrix strips_of(const std::vector<float>& w, int64_t rows, int64_t k, bool rotated) {
  const int64_t padded = (k + 63) / 64 * 64, n_strips = (rows + 63) / 64;
  FloatMatrix strips(n_strips * padded, kStripRows);
  std::vector<float> row(static_cast<size_t>(padded));
  for (int64_t r = 0; r < rows; ++r) {
    std::fill(row.begin(), row.end(), 0.0f);
    std::copy_n(w.begin() + r * k, k, row.begin());
    if (rotated) kernels().rotate(row.data(), 1, padded);
    for (int64_t i = 0; i < padded; ++i)
      strips.data()[(r / 64 * padded + i) * kStripRows + r % 64] = row[static_cast<size_t>(i)];
  }
  return strips;
}

}  // namespace lapidary
