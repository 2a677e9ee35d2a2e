// The search for a trellis code's symbols: the same in every table, near what theory allows, and
// never worse than deciding step by step.
#include "kernels/trellis_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

std::vector<uint8_t> search(const KernelTable& table, int bits, const std::vector<float>& x,
                            const std::vector<float>& w) {
  const int n = static_cast<int>(x.size());
  std::vector<float> scratch(static_cast<size_t>(trellis_scratch_floats(bits, n)));
  std::vector<uint8_t> symbols(x.size());
  table.search_trellis(bits, n, x.data(), w.data(), scratch.data(), symbols.data());
  return symbols;
}

double loss(int bits, const std::vector<uint8_t>& symbols, const std::vector<float>& x,
            const std::vector<float>& w) {
  std::vector<int8_t> levels(x.size());
  trellis_levels(bits, symbols, levels);
  double sum = 0;
  for (size_t t = 0; t < x.size(); ++t) sum += std::pow(w[t] * (x[t] - levels[t]), 2);
  return sum;
}

// Decides from the last step to the first which symbol is best for its own weight: what a code
// without a search would do. The ring's last steps are then read with symbols that were not known.
std::vector<uint8_t> greedy(int bits, const std::vector<float>& x) {
  std::vector<uint8_t> symbols(x.size());
  uint32_t history = 0;
  for (size_t t = x.size(); t-- > 0;) {
    float nearest = 1e9f;
    for (uint32_t symbol = 0; symbol < 1u << bits; ++symbol) {
      const uint32_t state = (history << bits | symbol) & (kTrellisStates - 1);
      const float distance = std::fabs(x[t] - trellis_level(bits, state));
      if (distance >= nearest) continue;
      nearest = distance;
      symbols[t] = static_cast<uint8_t>(symbol);
    }
    history = history << bits | symbols[t];
  }
  return symbols;
}

std::vector<float> weights_with_gaps(size_t n, uint32_t seed) {
  std::vector<float> w = random_floats(n, seed);
  for (size_t i = 0; i < n; ++i) w[i] = i % 7 == 0 ? 0.0f : std::fabs(w[i]);
  return w;
}

TEST(TrellisSearch, EveryTableFindsTheSameRing) {
  for (int bits = 3; bits <= 6; ++bits)
    for (const size_t n : {8u, 32u, 256u}) {
      const std::vector<float> x = random_floats(n, 3, kTrellisDeviation);
      for (const auto& w : {std::vector<float>(n, 1.0f), weights_with_gaps(n, 5)}) {
        const std::vector<uint8_t> expected = search(*available_kernels()[0], bits, x, w);
        for (const KernelTable* table : available_kernels())
          EXPECT_EQ(search(*table, bits, x, w), expected) << table->name << " " << bits << " " << n;
      }
    }
}

TEST(TrellisSearch, IsNeverWorseThanDecidingStepByStep) {
  for (int bits = 3; bits <= 6; ++bits)
    for (uint32_t seed = 1; seed <= 20; ++seed) {
      const std::vector<float> x = random_floats(256, seed, kTrellisDeviation * 0.1f * float(seed));
      const std::vector<float> w =
          seed % 2 ? std::vector<float>(256, 1.0f) : weights_with_gaps(256, seed);
      EXPECT_LE(loss(bits, search(kernels(), bits, x, w), x, w), loss(bits, greedy(bits, x), x, w))
          << bits << " " << seed;
    }
}

// Of a normal source in units of its variance. Below: the rate-distortion bound, 2^-2K. Above:
// what 2^12 states were measured to reach at these deviations, 0.0181, 0.00466, 0.00123, 0.000365,
// and 4 %, six standard errors of the mean over 400 rings.
TEST(TrellisSearch, LeavesTheErrorThatTheoryAllows) {
  const struct {
    int bits;
    float deviation;
    double error;
  } cases[] = {{3, 1 / 1.10f, 0.0181},
               {4, 1 / 1.15f, 0.00466},
               {5, 1 / 1.20f, 0.00123},
               {6, 1 / 1.30f, 0.000365}};
  const std::vector<float> w(256, 1.0f);
  for (const auto& c : cases) {
    const float deviation = kTrellisDeviation * c.deviation;
    double sum = 0;
    for (uint32_t seed = 1; seed <= 400; ++seed) {
      const std::vector<float> x = random_floats(256, seed, deviation);
      sum += loss(c.bits, search(kernels(), c.bits, x, w), x, w);
    }
    const double error = sum / (400 * 256) / (deviation * deviation);
    EXPECT_GT(error, std::pow(2.0, -2 * c.bits)) << c.bits;
    EXPECT_NEAR(error, c.error, 0.04 * c.error) << c.bits;
  }
}

TEST(TrellisSearch, FindsARingThatExistsExactly) {
  for (int bits = 3; bits <= 6; ++bits) {
    std::vector<uint8_t> symbols(256);
    for (size_t i = 0; i < symbols.size(); ++i)
      symbols[i] = static_cast<uint8_t>(i * i * 7 % 61 % (size_t{1} << bits));
    std::vector<int8_t> levels(256);
    trellis_levels(bits, symbols, levels);
    const std::vector<float> x(levels.begin(), levels.end()), w(256, 1.0f);
    EXPECT_EQ(loss(bits, search(kernels(), bits, x, w), x, w), 0.0) << bits;
  }
}

}  // namespace
}  // namespace lapidary
