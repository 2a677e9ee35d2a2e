// Intervals by inverting the score statistic, numerically, and by resampling. No table, no closed
// form that cannot be checked by eye.
#include "runtime/verify/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/error.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5 % quantile of the standard normal
// More items than anybody has: past it a sample size counts as "no size would do".
constexpr int64_t kMaxItems = 1'000'000'000;

// Tango's score statistic for the hypothesis "the difference is delta", where `gained` and `lost`
// are the discordant counts and the difference is (gained - lost) / n. Falls as delta grows. The
// nuisance probability of a lost item is its maximum-likelihood value under the hypothesis, the
// larger root of
//   2n q^2 + (-gained - lost + (2n - gained + lost) delta) q - lost delta (1 - delta) = 0.
double tango_score(double gained, double lost, double n, double delta) {
  const double a = 2 * n;
  const double b = -gained - lost + (2 * n - gained + lost) * delta;
  const double c = -lost * delta * (1 - delta);
  const double root = std::sqrt(std::max(0.0, b * b - 4 * a * c));
  // The second form avoids subtracting two nearly equal numbers.
  double q = b <= 0 ? (root - b) / (2 * a) : (root + b > 0 ? -2 * c / (root + b) : 0.0);
  q = std::max({q, 0.0, -delta});
  const double variance = n * std::max(0.0, 2 * q + delta * (1 - delta));
  const double distance = gained - lost - n * delta;
  if (variance <= 0) return distance == 0 ? 0.0 : std::copysign(HUGE_VAL, distance);
  return distance / std::sqrt(variance);
}

// The delta in [low, high] where the falling score crosses `target`.
double solve_score(double gained, double lost, double n, double target, double low, double high) {
  // 60 halvings of an interval of at most 2: below the spacing of doubles near 1.
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    (tango_score(gained, lost, n, middle) > target ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

Interval tango(double gained, double lost, double n) {
  const double estimate = (gained - lost) / n;
  return {solve_score(gained, lost, n, kZ, -1.0, estimate),
          solve_score(gained, lost, n, -kZ, estimate, 1.0)};
}

// The smallest size from n on at which `decided` holds; it must stay true once true.
template <class Decided>
int64_t smallest_size(int64_t n, Decided decided) {
  int64_t high = std::max<int64_t>(n, 1);
  if (decided(high)) return high;
  int64_t low = high;
  while (!decided(high)) {
    low = high;
    if (high > kMaxItems / 2) return 0;
    high *= 2;
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (decided(middle) ? high : low) = middle;
  }
  return high;
}

// 97.5 % quantile of Student's t: exact values where the expansion is poor, else Abramowitz &
// Stegun 26.7.5 (error below 1e-3 from 4 degrees of freedom on).
double student_quantile(int64_t degrees) {
  constexpr double kExact[] = {12.7062, 4.3027, 3.1824};
  if (degrees <= 3) return kExact[degrees - 1];
  const double z = kZ, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z, v = degrees;
  return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

}  // namespace

Interval wilson_interval(int64_t successes, int64_t n) {
  LAPIDARY_CHECK(successes >= 0 && successes <= n);
  if (n == 0) return {0.0, 1.0};
  const double count = static_cast<double>(n), p = static_cast<double>(successes) / count;
  const double shrink = 1 + kZ * kZ / count;
  const double center = (p + kZ * kZ / (2 * count)) / shrink;
  const double half = kZ * std::sqrt(p * (1 - p) / count + kZ * kZ / (4 * count * count)) / shrink;
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

Interval tango_interval(int64_t b, int64_t c, int64_t n) {
  LAPIDARY_CHECK(b >= 0 && c >= 0 && b + c <= n);
  if (n == 0) return {-1.0, 1.0};
  return tango(static_cast<double>(c), static_cast<double>(b), static_cast<double>(n));
}

// The percentile bootstrap of a mean over k clusters is too narrow for small k: it uses the normal
// quantile and divides the variance by k instead of k - 1. Its distances from the estimate are
// therefore stretched by t(k - 1) / z * sqrt(k / (k - 1)); 2 % at 100 clusters, 10 % at 20. With it
// a text of few windows is judged with the care it needs.
Interval cluster_bootstrap(std::span<const double> cluster_sums,
                           std::span<const int64_t> cluster_counts, int64_t resamples,
                           uint64_t seed) {
  const size_t k = cluster_sums.size();
  LAPIDARY_CHECK(k >= 2 && cluster_counts.size() == k && resamples >= 2);
  double total = 0;
  int64_t count = 0;
  for (size_t i = 0; i < k; ++i) {
    LAPIDARY_CHECK(cluster_counts[i] > 0);
    total += cluster_sums[i];
    count += cluster_counts[i];
  }
  const double estimate = total / static_cast<double>(count);

  SplitMix64 random(seed);
  std::vector<double> means(static_cast<size_t>(resamples));
  for (double& mean : means) {
    double sum = 0;
    int64_t n = 0;
    for (size_t i = 0; i < k; ++i) {
      const size_t pick = random.below(k);
      sum += cluster_sums[pick];
      n += cluster_counts[pick];
    }
    mean = sum / static_cast<double>(n);
  }
  std::sort(means.begin(), means.end());
  const double clusters = static_cast<double>(k);
  const double stretch =
      student_quantile(static_cast<int64_t>(k) - 1) / kZ * std::sqrt(clusters / (clusters - 1));
  return {estimate - stretch * (estimate - quantile(means, 0.025)),
          estimate + stretch * (quantile(means, 0.975) - estimate)};
}

int64_t items_needed(int64_t b, int64_t c, int64_t n, double margin) {
  LAPIDARY_CHECK(b >= 0 && c >= 0 && b + c <= n);
  const double rate = n > 0 ? 1.0 / static_cast<double>(n) : 0.0;
  if (margin <= 0 || static_cast<double>(c - b) * rate <= -margin) return 0;
  return smallest_size(n, [&](int64_t size) {
    const double m = static_cast<double>(size);
    return tango(c * rate * m, b * rate * m, m).first >= -margin;
  });
}

int64_t items_needed_to_exclude_zero(int64_t b, int64_t c, int64_t n) {
  LAPIDARY_CHECK(b >= 0 && c >= 0 && b + c <= n);
  if (b == c) return 0;
  const double rate = 1.0 / static_cast<double>(n);
  return smallest_size(n, [&](int64_t size) {
    const double m = static_cast<double>(size);
    const Interval interval = tango(c * rate * m, b * rate * m, m);
    return interval.first > 0 || interval.second < 0;
  });
}

double quantile(std::span<const double> sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace lapidary
