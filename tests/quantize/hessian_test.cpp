// Hessians and their factors against sums in double; the same bits at any number of threads.
#include "quantize/hessian.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "quantize/factor.h"
#include "tests/quantize/calibration_data.h"

namespace lapidary {
namespace {

TEST(Hessian, IsTheSumOfProductsInTheStoredBasis) {
  constexpr int64_t kN = 200, kRows = 700;  // ragged in tiles and in passes over tokens
  const std::vector<float> x = correlated_rows(kRows, kN, 1);
  ThreadPool one(1), two(2, 2);
  for (const bool rotated : {false, true}) {
    const Hessian h = hessian_of(x, kN, rotated, one);
    const Hessian same = hessian_of(x, kN, rotated, two);
    ASSERT_EQ(h.padded_n(), 256);
    EXPECT_EQ(h.weight(), kRows);
    std::vector<float> y(static_cast<size_t>(kRows * 256));
    for (int64_t t = 0; t < kRows; ++t) {
      std::copy_n(x.begin() + t * kN, kN, y.begin() + t * 256);
      if (rotated) kernels().rotate(y.data() + t * 256, 1, 256);
    }
    for (int64_t i = 0; i < 256; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0, magnitude = 0;
        for (int64_t t = 0; t < kRows; ++t) {
          const double product = double{y[t * 256 + i]} * y[t * 256 + j];
          sum += product;
          magnitude += std::fabs(product);
        }
        // Chains of 64 fused additions, then 11 more: 75 roundings at most.
        ASSERT_NEAR(h.sums().row(i)[j], sum, 75 * 6e-8 * magnitude + 1e-30) << i << " " << j;
        ASSERT_EQ(h.sums().row(i)[j], same.sums().row(i)[j]);
      }
  }
}

TEST(Hessian, CountsRowsByTheSquareOfTheirFactor) {
  constexpr int64_t kN = 64;
  const std::vector<float> x = correlated_rows(10, kN, 2);
  std::vector<float> factors(10, 0.0f);
  factors[3] = 0.5f;
  ThreadPool pool(1);
  Hessian h(kN, false);
  FloatMatrix scratch;
  ASSERT_TRUE(h.add(x.data(), 10, factors.data(), scratch, pool));
  EXPECT_FLOAT_EQ(h.sums().row(7)[5], 0.25f * x[3 * kN + 7] * x[3 * kN + 5]);
  EXPECT_EQ(h.weight(), 0.25);
  // Half of what the layer's 10 tokens say on average, twice over.
  const Hessian all = hessian_of(x, kN, false, pool);
  const float own = h.sums().row(9)[2];
  h.shrink_towards(all, 20, pool);
  EXPECT_FLOAT_EQ(h.sums().row(9)[2], own + 2 * all.sums().row(9)[2]);
}

TEST(Hessian, SaysWhenAnInputIsNotANumber) {
  std::vector<float> x = correlated_rows(100, 70, 3);
  x[55 * 70 + 66] = INFINITY;
  ThreadPool pool(2);
  Hessian h(70, true);
  FloatMatrix scratch;
  EXPECT_FALSE(h.add(x.data(), 100, nullptr, scratch, pool));
}

TEST(Factor, MultipliesBackToTheDampedHessian) {
  ThreadPool one(1), two(2, 2);
  for (const int64_t n : {64, 640, 1100}) {  // one step; ragged panels of 512; padding
    const std::vector<float> x = correlated_rows(300, n, 4);  // rank-deficient from 640 on
    const Hessian h = hessian_of(x, n, true, one);
    FloatMatrix scratch;
    const double mean = h.trace() / static_cast<double>(n);
    const Factor f = factorize(hessian_of(x, n, true, one), 0.01, scratch, one);
    const Factor same = factorize(hessian_of(x, n, true, two), 0.01, scratch, two);
    EXPECT_EQ(f.damping, 0.01);
    double worst = 0;
    for (int64_t i = 0; i < f.n; i += 7)
      for (int64_t j = 0; j <= i; j += 3) {
        double sum = 0;
        for (int64_t k = 0; k <= j; ++k) sum += at(f, i, k) * f.d[k] * at(f, j, k);
        const double expected = h.sums().row(i)[j] + (i == j ? 0.01 * mean : 0.0);
        worst = std::max(worst, std::fabs(sum - expected));
        EXPECT_EQ(f.matrix.row(i)[j], same.matrix.row(i)[j]);
        if (i != j) {
          EXPECT_EQ(f.matrix.row(j)[i], h.sums().row(i)[j]);  // H is kept
        }
      }
    // Backward error of a Cholesky: n eps times the largest diagonal element, at most ~30 means.
    EXPECT_LT(worst, static_cast<double>(n) * 6e-8 * 30 * mean) << n;
  }
}

TEST(Factor, GrowsTheDampingUntilPivotsArePositive) {
  ThreadPool pool(1);
  FloatMatrix scratch;
  std::vector<float> x(128, 1.0f);  // one token: rank 1, and all inputs the same
  const Factor f = factorize(hessian_of(x, 128, false, pool), 1e-9, scratch, pool);
  EXPECT_GT(f.damping, 1e-9);
  EXPECT_LT(f.damping, 1e-2);
}

}  // namespace
}  // namespace lapidary
