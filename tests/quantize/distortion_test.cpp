// Distortion of every weight code on independent rows, pinned inside windows around theory.
//
// No code may fall below the rate-distortion bound at the bits it stores, scales included: 2^-2b
// for Gaussian rows, and e/pi of that for Laplace rows (Shannon's lower bound; Cover and Thomas,
// Elements of Information Theory, 10.3). None may lie above the best uniform quantizer with as many
// levels and one step for all values: scales per 32 that buy nothing would show there. Between the
// two, a window of 3 % around what the code gives today, so that a change of the search cannot pass
// unnoticed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "quantize/quantize.h"
#include "tests/quantize/memory_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

constexpr int64_t kRows = 256, kColumns = 1024;
constexpr double kWindow = 0.03;  // 2^18 values: their own scatter is about 0.5 %

// Portable, unlike std::normal_distribution. In (0, 1).
double uniform(std::mt19937& random) { return (random() + 0.5) / 4294967296.0; }

double gaussian(std::mt19937& random) {  // Box and Muller
  const double radius = std::sqrt(-2 * std::log(uniform(random)));
  return radius * std::cos(2 * std::numbers::pi * uniform(random));
}

double laplace(std::mt19937& random) {
  const double u = uniform(random) - 0.5;
  return std::copysign(std::log(1 - 2 * std::abs(u)), u);
}

struct Distortion {
  double bits, error;
};

Distortion distortion(Code code, double (*draw)(std::mt19937&)) {
  std::mt19937 random(20);
  std::vector<float> values(kRows * kColumns);
  for (float& v : values) v = static_cast<float>(0.02 * draw(random));
  MemorySource source;
  source.add("w.weight", {kRows, kColumns}, std::move(values));
  const TemporaryFolder folder;
  QuantizeOptions options;
  options.weights = code;
  options.n_threads = 1;
  const QuantizeReport report = quantize(source, folder.file("q.lap"), options, {});
  return {report.tensors[0].bits, report.tensors[0].relative_error};
}

// The least mean squared error of a quantizer with `levels` equal steps on a source of variance 1,
// by integration: the step is searched, the density is even.
double best_uniform(int levels, double (*density)(double)) {
  double best = 1;
  for (double step = 0.01; step < 1.2; step *= 1.01) {
    double error = 0;
    constexpr double kWidth = 0.002;
    for (double x = kWidth / 2; x < 25; x += kWidth) {
      const double cell = std::min(std::floor(x / step), levels / 2.0 - 1);
      error += 2 * kWidth * density(x) * std::pow(x - (cell + 0.5) * step, 2);
    }
    best = std::min(best, error);
  }
  return best;
}

double gaussian_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }
double laplace_density(double x) {
  return std::exp(-std::numbers::sqrt2 * x) / std::numbers::sqrt2;
}

struct Expected {
  Code code;
  int levels;
  double gaussian, laplace;  // ||W - W'||^2 / ||W||^2 today
};

constexpr Expected kExpected[] = {
    {Code::kW8, 256, 3.891e-5, 3.824e-5},  {Code::kW6, 64, 6.254e-4, 6.161e-4},
    {Code::kW5, 32, 1.957e-3, 1.913e-3},   {Code::kW4, 16, 6.848e-3, 6.714e-3},
    {Code::kW3, 8, 2.972e-2, 2.922e-2},    {Code::kW4x, 16, 6.568e-3, 1.042e-2},
    {Code::kW8x, 256, 2.355e-5, 3.786e-5}, {Code::kT6, 64, 3.374e-4, 3.374e-4},
    {Code::kT5, 32, 1.184e-3, 1.184e-3},   {Code::kT4, 16, 4.598e-3, 4.605e-3},
    {Code::kT3, 8, 1.820e-2, 1.823e-2},
};

TEST(Distortion, TheComparedUniformQuantizerIsTheKnownOne) {
  // Max, Quantizing for minimum distortion, IRE Trans. IT 1960, table II.
  EXPECT_NEAR(best_uniform(8, gaussian_density), 0.03744, 1e-4);
  EXPECT_NEAR(best_uniform(16, gaussian_density), 0.01154, 1e-4);
}

TEST(Distortion, GaussianRowsLieBetweenTheBoundAndTheBestUniformQuantizer) {
  for (const Expected& e : kExpected) {
    const Distortion found = distortion(e.code, gaussian);
    const double bound = std::pow(2, -2 * found.bits);
    EXPECT_GT(found.error, bound) << code_name(e.code);
    EXPECT_LT(found.error, best_uniform(e.levels, gaussian_density)) << code_name(e.code);
    EXPECT_NEAR(found.error / e.gaussian, 1, kWindow) << code_name(e.code) << " " << found.error;
  }
}

TEST(Distortion, LaplaceRowsLieBetweenTheBoundAndTheBestUniformQuantizer) {
  for (const Expected& e : kExpected) {
    const Distortion found = distortion(e.code, laplace);
    const double bound = std::numbers::e / std::numbers::pi * std::pow(2, -2 * found.bits);
    EXPECT_GT(found.error, bound) << code_name(e.code);
    EXPECT_LT(found.error, best_uniform(e.levels, laplace_density)) << code_name(e.code);
    EXPECT_NEAR(found.error / e.laplace, 1, kWindow) << code_name(e.code) << " " << found.error;
  }
}

}  // namespace
}  // namespace lapidary
