// Histograms, linear and logarithmic. The vertical axis counts values.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/report/axis.h"
#include "tools/report/chart.h"

namespace lapidary {
namespace {

constexpr double kSmallest = 1e-8;  // on a logarithmic axis, what is below counts as zero
constexpr int kBinsPerDecade = 4;
constexpr int kLinearBins = 60;

struct Bins {
  double low = 0, high = 1;  // of the axis; powers of ten when logarithmic
  std::vector<size_t> counts;
  size_t zeros = 0;  // logarithmic only
};

Bins count_logarithmic(const std::vector<float>& values) {
  Bins bins;
  double smallest = HUGE_VAL, largest = 0;
  for (const float value : values)
    if (std::isfinite(value) && value >= kSmallest) {
      smallest = std::min<double>(smallest, value);
      largest = std::max<double>(largest, value);
    }
  if (largest == 0) smallest = largest = kSmallest;
  bins.low = std::floor(std::log10(smallest));
  bins.high = std::max(bins.low + 1, std::ceil(std::log10(largest) + 1e-9));
  bins.counts.resize(static_cast<size_t>((bins.high - bins.low) * kBinsPerDecade));
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    if (value < kSmallest) {
      ++bins.zeros;
      continue;
    }
    const double at = (std::log10(static_cast<double>(value)) - bins.low) * kBinsPerDecade;
    ++bins.counts[std::min(bins.counts.size() - 1, static_cast<size_t>(std::max(0.0, at)))];
  }
  return bins;
}

// The outermost 0.5 % on each side are drawn in the last bars, or a few of them would set the
// scale.
Bins count_linear(std::vector<float> values) {
  Bins bins;
  std::erase_if(values, [](float value) { return !std::isfinite(value); });
  bins.counts.resize(kLinearBins);
  if (values.empty()) return bins;
  std::sort(values.begin(), values.end());
  const size_t cut = values.size() / 200;
  bins.low = values[cut];
  bins.high = values[values.size() - 1 - cut];
  if (!(bins.high > bins.low)) {
    const double half = std::max(std::abs(bins.low) * 0.5, 1e-6);
    bins.low -= half;
    bins.high += half;
  }
  for (const float value : values) {
    const double at = (value - bins.low) / (bins.high - bins.low) * kLinearBins;
    ++bins.counts[static_cast<size_t>(std::clamp(at, 0.0, kLinearBins - 1.0))];
  }
  return bins;
}

std::string power_label(double exponent) {
  const int power = static_cast<int>(std::lround(exponent));
  if (power >= -3 && power <= 3) return fmt::format("{:g}", std::pow(10.0, power));
  return fmt::format("1e{}", power);
}

}  // namespace

Svg draw(const Histogram& chart) {
  const Bins bins =
      chart.logarithmic ? count_logarithmic(chart.values) : count_linear(chart.values);
  Svg svg(chart.width, chart.height, chart.title);
  svg.text(0, 16, chart.title, "strong big");

  const double bottom = chart.height - 42, top = 56, right = chart.width - 8;
  const double left = bins.zeros > 0 ? 110 : 56;
  size_t tallest = std::max<size_t>(bins.zeros, 1);
  for (const size_t count : bins.counts) tallest = std::max(tallest, count);
  const Axis y(0, static_cast<double>(tallest), bottom, top);
  const Axis x(bins.low, bins.high, left, right);

  for (const double tick : y.ticks(4)) {
    svg.line(56, y(tick), right, y(tick), "grid");
    svg.text(50, y(tick) + 4, y.label(tick), "soft", "end");
  }
  if (bins.zeros > 0) {
    const double height = bottom - y(static_cast<double>(bins.zeros));
    svg.rect(64, bottom - height, 28, height, "bar", 2, fmt::format("{} below 1e-8", bins.zeros));
    svg.text(78, bottom + 16, "0", "soft", "middle");
  }
  const double width = (right - left) / static_cast<double>(bins.counts.size());
  for (size_t i = 0; i < bins.counts.size(); ++i) {
    const double height = bottom - y(static_cast<double>(bins.counts[i]));
    if (bins.counts[i] > 0)
      svg.rect(left + width * static_cast<double>(i) + 0.5, bottom - height, width - 1, height,
               "bar", 2, fmt::format("{} values", bins.counts[i]));
  }
  svg.line(56, bottom, right, bottom, "axis");
  if (chart.logarithmic) {
    for (double power = bins.low; power <= bins.high; ++power)
      svg.text(x(power), bottom + 16, power_label(power), "soft",
               power == bins.high ? "end" : "middle");
  } else {
    for (const double tick : x.ticks(8))
      svg.text(x(tick), bottom + 16, x.label(tick), "soft", "middle");
  }
  svg.text((left + right) / 2, chart.height - 6, chart.x_label, "soft", "middle");

  // Names of marks take turns on two lines, so that neighbours do not overlap.
  size_t turn = 0;
  for (const auto& [name, value] : chart.marks) {
    if (!std::isfinite(value) || (chart.logarithmic && value < kSmallest)) continue;
    const double at = x(chart.logarithmic ? std::log10(value) : value);
    if (at < left || at > right) continue;
    const double label = turn++ % 2 == 0 ? 34 : 48;
    svg.line(at, label + 3, at, bottom, "mark");
    svg.text(at + 4, label + 2, name, "", at > right - 120 ? "end" : "start");
  }
  return svg;
}

}  // namespace lapidary
