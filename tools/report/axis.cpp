// Round ticks: 1, 2 or 5 times a power of ten.
#include "tools/report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/report/chart.h"

namespace lapidary {

std::vector<double> nice_ticks(double low, double high, int wanted) {
  if (!(high > low) || wanted < 1) return {low};
  const double raw = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double step = power * (raw / power < 1.5   ? 1
                               : raw / power < 3.5 ? 2
                               : raw / power < 7.5 ? 5
                                                   : 10);
  std::vector<double> ticks;
  // Counted in integers, so that zero is exactly zero.
  for (double i = std::ceil(low / step - 1e-9);
       i * step <= high + 1e-9 * step && ticks.size() < 100; ++i)
    ticks.push_back(i * step == 0 ? 0.0 : i * step);
  return ticks;
}

Axis::Axis(double low, double high, double from, double to)
    : low_(low), high_(high), from_(from), to_(to) {
  if (high_ > low_) return;
  const double half = low_ == 0 ? 1.0 : std::abs(low_) * 0.5;
  low_ -= half;
  high_ = low_ + 2 * half;
}

std::vector<double> Axis::ticks(int wanted) const {
  const std::vector<double> ticks = nice_ticks(low_, high_, wanted);
  step_ = ticks.size() > 1 ? ticks[1] - ticks[0] : 0;
  return ticks;
}

std::string Axis::label(double tick) const {
  if (step_ <= 0 || std::abs(tick) >= 1e6 || step_ < 1e-6) return fmt::format("{:.3g}", tick);
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step_) - 1e-9)), 0, 6);
  return fmt::format("{:.{}f}", tick, decimals);
}

}  // namespace lapidary
