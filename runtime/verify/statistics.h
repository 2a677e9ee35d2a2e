// The statistics behind a verdict: Wilson and Tango intervals, cluster bootstrap, sample sizes.
// Sources: Wilson 1927; Tango, Statistics in Medicine 17 (1998), 891-908; Efron & Tibshirani 1993,
// ch. 13.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

namespace lapidary {

using Interval = std::pair<double, double>;

Interval wilson_interval(int64_t successes, int64_t n);  // 95 %; n = 0: [0, 1]
// 95 % score interval of (c - b) / n for paired binary outcomes: b base right and candidate wrong,
// c the reverse. Not zero wide when b = c = 0. n = 0: [-1, 1].
Interval tango_interval(int64_t b, int64_t c, int64_t n);
// 95 % percentile interval of sum(values) / sum(counts) over clusters resampled with replacement,
// widened for few clusters (see the .cpp). REQUIRES: at least 2 clusters, every count positive.
Interval cluster_bootstrap(std::span<const double> cluster_sums,
                           std::span<const int64_t> cluster_counts, int64_t resamples,
                           uint64_t seed);
// Items needed so that tango_interval's lower bound would clear -margin if the present discordance
// rates persist; at least n. 0 if no size would.
int64_t items_needed(int64_t b, int64_t c, int64_t n, double margin);
// Items needed so that tango_interval would exclude zero at the present rates; 0 if no size would.
int64_t items_needed_to_exclude_zero(int64_t b, int64_t c, int64_t n);

// Linear interpolation between order statistics. REQUIRES: not empty, sorted, share in [0, 1].
double quantile(std::span<const double> sorted, double share);

}  // namespace lapidary
