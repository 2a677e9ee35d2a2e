// Curves over a plain or logarithmic axis, with named points.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/report/axis.h"
#include "tools/report/chart.h"

namespace lapidary {
namespace {

constexpr double kLeft = 56, kTop = 44, kRight = 12, kBottom = 42;

// 1, 2 and 5 times powers of ten between two logarithms; only powers over a wide range.
std::vector<double> decade_ticks(double low, double high) {
  std::vector<double> ticks;
  for (int power = static_cast<int>(std::floor(low)); power <= high; ++power)
    for (const double step : {1.0, 2.0, 5.0}) {
      const double value = step * std::pow(10.0, power);
      if (step != 1 && high - low > 2.2) continue;
      if (std::log10(value) >= low - 1e-9 && std::log10(value) <= high + 1e-9)
        ticks.push_back(value);
    }
  return ticks;
}

}  // namespace

Svg draw(const LineChart& chart) {
  Svg svg(chart.width, chart.height, chart.title);
  const auto shown = [&](double x, double y) {
    return std::isfinite(x) && std::isfinite(y) && (!chart.logarithmic || y > 0);
  };
  const auto height = [&](double y) { return chart.logarithmic ? std::log10(y) : y; };
  std::vector<double> xs, ys;
  const auto add = [&](double x, double y) {
    if (!shown(x, y)) return;
    xs.push_back(x);
    ys.push_back(height(y));
  };
  for (const LineSeries& series : chart.series)
    for (const auto& [x, y] : series.points) add(x, y);
  for (const LineMark& mark : chart.marks) add(mark.x, mark.y);
  svg.text(0, 16, chart.title, "strong big");
  if (xs.empty()) {
    svg.text(0, 40, "no data", "soft");
    return svg;
  }
  const auto [x_low, x_high] = std::minmax_element(xs.begin(), xs.end());
  const auto [y_low, y_high] = std::minmax_element(ys.begin(), ys.end());
  const double right = chart.width - kRight;
  const Axis x(*x_low, *x_high, kLeft, right);
  // Names of marks stand above them.
  const double room = chart.marks.empty() ? 0 : 0.08 * (*y_high - *y_low);
  const Axis y(*y_low, *y_high + room, chart.height - kBottom, kTop);
  const auto horizontal = [&](double at, const std::string& label) {
    svg.line(kLeft, y(at), right, y(at), "grid");
    svg.text(kLeft - 6, y(at) + 4, label, "soft", "end");
  };
  if (chart.logarithmic)
    for (const double tick : decade_ticks(*y_low, *y_high))
      horizontal(std::log10(tick), fmt::format("{:g}", tick));
  else
    for (const double tick : y.ticks(5)) horizontal(tick, y.label(tick));
  for (const double tick : x.ticks(8))
    svg.text(x(tick), chart.height - 24, x.label(tick), "soft", "middle");
  svg.text((kLeft + right) / 2, chart.height - 6, chart.x_label, "soft", "middle");
  svg.text(kLeft, 36, chart.y_label, "soft");
  double legend = right;
  for (size_t i = chart.series.size(); i-- > 0;) {
    const LineSeries& series = chart.series[i];
    std::vector<std::pair<double, double>> points;
    for (const auto& [px, py] : series.points)
      if (shown(px, py)) points.emplace_back(x(px), y(height(py)));
    svg.polyline(points, fmt::format("curve s{}", i % 4));
    if (series.name.empty()) continue;
    svg.text(legend, 36, series.name, "", "end");
    legend -= 7.0 * static_cast<double>(series.name.size()) + 8;
    svg.circle(legend, 32, 4, fmt::format("f{}", i % 4));
    legend -= 16;
  }
  for (const LineMark& mark : chart.marks) {
    if (!shown(mark.x, mark.y)) continue;
    const double at = x(mark.x), level = y(height(mark.y));
    if (mark.strong) svg.line(at, kTop, at, chart.height - kBottom, "mark");
    svg.circle(at, level, mark.strong ? 6 : 4, mark.strong ? "f0" : "f1");
    const bool left = at > right - 90;
    svg.text(at + (left ? -9 : 9), level - 7, mark.name, mark.strong ? "strong" : "soft",
             left ? "end" : "start");
  }
  return svg;
}

}  // namespace lapidary
