// Intervals against published values, an independent solution, and simulation.
#include "runtime/verify/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "runtime/verify/random.h"

namespace lapidary {
namespace {

constexpr double kZ = 1.959963984540054;

// The same limits found another way: the restricted likelihood of the two discordant counts is
// maximized by golden-section search instead of the closed form for the nuisance probability.
double score_by_search(double gained, double lost, double n, double delta) {
  double low = std::max(0.0, -delta), high = (1 - delta) / 2;
  const auto likelihood = [&](double q) {
    const auto term = [](double k, double p) {
      return k == 0 ? 0.0 : k * std::log(std::max(p, 1e-300));
    };
    return term(gained, q + delta) + term(lost, q) + term(n - gained - lost, 1 - 2 * q - delta);
  };
  const double golden = (std::sqrt(5.0) - 1) / 2;
  for (int i = 0; i < 200; ++i) {
    const double a = high - golden * (high - low), b = low + golden * (high - low);
    (likelihood(a) < likelihood(b) ? low : high) = likelihood(a) < likelihood(b) ? a : b;
  }
  const double q = 0.5 * (low + high);
  return (gained - lost - n * delta) / std::sqrt(n * (2 * q + delta - delta * delta));
}

TEST(Wilson, GivesNewcombesPublishedValues) {
  // Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3; four decimals.
  const struct {
    int64_t successes, n;
    double low, high;
  } cases[] = {{81, 263, 0.2553, 0.3662},
               {15, 148, 0.0624, 0.1605},
               {0, 20, 0.0, 0.1611},
               {1, 29, 0.0061, 0.1718}};
  for (const auto& c : cases) {
    const Interval interval = wilson_interval(c.successes, c.n);
    EXPECT_NEAR(interval.first, c.low, 5e-5);
    EXPECT_NEAR(interval.second, c.high, 5e-5);
  }
  EXPECT_EQ(wilson_interval(0, 0), Interval(0.0, 1.0));
}

TEST(Tango, GivesPublishedValues) {
  // Fagerland, Lydersen, Laake, Statistics in Medicine 33 (2014), 2850-2875: airway
  // hyper-responsiveness of 21 children, discordant pairs 1 and 7; three decimals.
  const Interval interval = tango_interval(7, 1, 21);
  EXPECT_NEAR(interval.first, -0.517, 5e-4);
  EXPECT_NEAR(interval.second, -0.026, 5e-4);
}

TEST(Tango, AgreesWithALikelihoodSearchAtItsLimits) {
  for (const auto& [b, c, n] : std::vector<std::array<int64_t, 3>>{
           {7, 1, 21}, {40, 20, 160}, {3, 9, 1000}, {25, 28, 618}, {5, 5, 10}, {1, 1, 5}}) {
    const Interval interval = tango_interval(b, c, n);
    // The search finds q to about 1e-8, the root of the machine precision.
    EXPECT_NEAR(score_by_search(c, b, n, interval.first), kZ, 1e-5) << b << ' ' << c << ' ' << n;
    EXPECT_NEAR(score_by_search(c, b, n, interval.second), -kZ, 1e-5) << b << ' ' << c << ' ' << n;
  }
}

TEST(Tango, IsNotZeroWideWhenNothingFlips) {
  for (const int64_t n : {1, 10, 50, 1000}) {
    const Interval interval = tango_interval(0, 0, n);
    // With no discordant pair the score equation reduces to delta = z^2 / (n + z^2).
    const double limit = kZ * kZ / (static_cast<double>(n) + kZ * kZ);
    EXPECT_NEAR(interval.second, limit, 1e-9);
    EXPECT_NEAR(interval.first, -limit, 1e-9);
  }
  EXPECT_EQ(tango_interval(0, 0, 0), Interval(-1.0, 1.0));
}

TEST(Tango, MirrorsContainsTheEstimateAndStaysInRange) {
  for (int64_t n = 1; n <= 12; ++n)
    for (int64_t b = 0; b <= n; ++b)
      for (int64_t c = 0; b + c <= n; ++c) {
        const Interval interval = tango_interval(b, c, n), mirrored = tango_interval(c, b, n);
        const double estimate = static_cast<double>(c - b) / static_cast<double>(n);
        EXPECT_NEAR(interval.first, -mirrored.second, 1e-9);
        EXPECT_LE(interval.first, estimate + 1e-12);
        EXPECT_GE(interval.second, estimate - 1e-12);
        EXPECT_GE(interval.first, -1.0);
        EXPECT_LE(interval.second, 1.0);
        EXPECT_GT(interval.second - interval.first, 0.0);
      }
}

TEST(Tango, CoversTheTruthNineteenTimesInTwenty) {
  const struct {
    int n;
    double lost, gained;
  } cases[] = {{100, 0.05, 0.05}, {100, 0.10, 0.02}, {400, 0.04, 0.01}};
  SplitMix64 random(1);
  for (const auto& truth : cases) {
    int covered = 0;
    constexpr int kRounds = 4000;
    for (int round = 0; round < kRounds; ++round) {
      int64_t b = 0, c = 0;
      for (int i = 0; i < truth.n; ++i) {
        const double u = random.uniform();
        b += u < truth.lost;
        c += u >= truth.lost && u < truth.lost + truth.gained;
      }
      const Interval interval = tango_interval(b, c, truth.n);
      const double difference = truth.gained - truth.lost;
      covered += interval.first <= difference && difference <= interval.second;
    }
    // 4000 rounds have a standard error of 0.35 %; the score interval itself strays by about 1 %.
    EXPECT_NEAR(static_cast<double>(covered) / kRounds, 0.95, 0.02) << truth.n << ' ' << truth.lost;
  }
}

TEST(Bootstrap, IsDeterministicAndExactlyZeroForZeros) {
  const std::vector<double> sums = {1.0, -2.0, 0.5, 4.0, 0.25};
  const std::vector<int64_t> counts = {10, 20, 10, 30, 5};
  const Interval once = cluster_bootstrap(sums, counts, 1000, 7);
  EXPECT_EQ(once, cluster_bootstrap(sums, counts, 1000, 7));
  EXPECT_NE(once, cluster_bootstrap(sums, counts, 1000, 8));
  const std::vector<double> zeros(5, 0.0);
  EXPECT_EQ(cluster_bootstrap(zeros, counts, 1000, 7), Interval(0.0, 0.0));
}

// Clusters whose members share an offset: an interval that took tokens for independent would be
// three times too narrow and cover about half the time.
TEST(Bootstrap, CoversTheTruthWithCorrelatedClustersAndWithFew) {
  SplitMix64 random(3);
  const auto normal = [&] {
    double sum = -6;  // twelve uniforms: mean 6, variance 1
    for (int i = 0; i < 12; ++i) sum += random.uniform();
    return sum;
  };
  for (const int clusters : {5, 20, 60}) {
    int covered = 0;
    constexpr int kRounds = 1000, kTokens = 16;
    for (int round = 0; round < kRounds; ++round) {
      std::vector<double> sums;
      std::vector<int64_t> counts;
      for (int i = 0; i < clusters; ++i) {
        const double offset = normal();
        double sum = 0;
        for (int t = 0; t < kTokens; ++t) sum += 0.3 + offset + normal();
        sums.push_back(sum);
        counts.push_back(kTokens);
      }
      const Interval interval = cluster_bootstrap(sums, counts, 400, static_cast<uint64_t>(round));
      covered += interval.first <= 0.3 && 0.3 <= interval.second;
    }
    // Standard error 0.7 %; 400 resamples add a little noise of their own, five clusters some bias.
    EXPECT_NEAR(static_cast<double>(covered) / kRounds, 0.95, 0.03) << clusters << " clusters";
  }
}

TEST(ItemsNeeded, IsTheSmallestSizeThatClearsTheMargin) {
  // Nothing flipped: z^2 / (n + z^2) <= 0.02 first at n = 189.
  EXPECT_EQ(items_needed(0, 0, 50, 0.02), 189);
  EXPECT_EQ(items_needed(0, 0, 500, 0.02), 500);
  const int64_t needed = items_needed(5, 5, 100, 0.02);
  EXPECT_GT(needed, 100);
  EXPECT_GE(tango_interval(needed / 20, needed / 20, needed).first, -0.0201);
  EXPECT_LT(tango_interval(needed / 40, needed / 40, needed / 2).first, -0.02);
}

TEST(ItemsNeeded, IsZeroWhenNoSizeWouldDo) {
  EXPECT_EQ(items_needed(5, 3, 100, 0.02), 0);  // the loss is the margin
  EXPECT_EQ(items_needed(9, 3, 100, 0.02), 0);
  EXPECT_EQ(items_needed_to_exclude_zero(4, 4, 100), 0);
}

TEST(ItemsNeeded, ToExcludeZeroGrowsAsTheLossShrinks) {
  const int64_t large = items_needed_to_exclude_zero(8, 2, 100);
  const int64_t small = items_needed_to_exclude_zero(6, 4, 100);
  EXPECT_GE(large, 100);
  EXPECT_GT(small, 4 * large);
  EXPECT_LT(tango_interval(small * 6 / 100 + 1, small * 4 / 100, small).second, 1e-3);
}

}  // namespace
}  // namespace lapidary
