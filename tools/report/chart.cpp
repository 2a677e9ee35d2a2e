// Curves, bars and intervals. Histograms have a file of their own.
#include "tools/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/report/axis.h"

namespace lapidary {
namespace {

// A label column wide enough for its longest text at about 7 pixels a character, within reason.
double label_width(size_t characters) {
  return std::clamp(7.0 * static_cast<double>(characters) + 12, 60.0, 220.0);
}

std::string shortened(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t end = limit - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;  // a whole character
  return text.substr(0, end) + "\xE2\x80\xA6";
}

}  // namespace

Svg draw(const BarChart& chart) {
  constexpr double kRow = 28;
  Svg svg(chart.width, 34 + kRow * static_cast<double>(chart.bars.size()), chart.title);
  svg.text(0, 16, chart.title, "strong big");
  size_t longest = 0;
  double largest = 0;
  for (const auto& [name, value] : chart.bars) {
    longest = std::max(longest, name.size());
    if (std::isfinite(value)) largest = std::max(largest, value);
  }
  const double left = label_width(longest), room = chart.width - left - 110;
  double top = 30;
  for (const auto& [name, value] : chart.bars) {
    svg.text(left - 8, top + 16, shortened(name, 30), "", "end");
    if (std::isfinite(value)) {
      const double length = largest > 0 ? room * std::max(0.0, value) / largest : 0;
      svg.rect(left, top + 3, length, kRow - 10, "bar", 3);
      svg.text(left + length + 8, top + 16, fmt::format("{:.4g} {}", value, chart.unit), "soft");
    }
    top += kRow;
  }
  return svg;
}

Svg draw(const IntervalPlot& chart) {
  constexpr double kRow = 30, kTop = 34;
  const double bottom = kTop + kRow * static_cast<double>(chart.rows.size());
  Svg svg(chart.width, bottom + 44, chart.title);
  svg.text(0, 16, chart.title, "strong big");
  size_t longest = 0;
  double low = 0, high = 0;  // zero is always in the picture
  for (const IntervalRow& row : chart.rows) {
    longest = std::max(longest, row.label.size());
    for (const double value : {row.estimate, row.low, row.high, row.zone_low, row.zone_high})
      if (std::isfinite(value)) {
        low = std::min(low, value);
        high = std::max(high, value);
      }
  }
  const double margin = 0.06 * (high - low);
  const double left = label_width(longest), right = chart.width - 8;
  const Axis x(low - margin, high + margin, left, right);

  double top = kTop;
  for (const IntervalRow& row : chart.rows) {
    const double from = std::isfinite(row.zone_low) ? x(row.zone_low) : left;
    const double to = std::isfinite(row.zone_high) ? x(row.zone_high) : right;
    svg.rect(from, top, std::max(0.0, to - from), kRow, "zone");
    if (std::isfinite(row.zone_low)) svg.line(from, top, from, top + kRow, "mark");
    if (std::isfinite(row.zone_high)) svg.line(to, top, to, top + kRow, "mark");
    top += kRow;
  }
  for (const double tick : x.ticks(6)) {
    svg.line(x(tick), kTop, x(tick), bottom, "grid");
    svg.text(x(tick), bottom + 16, x.label(tick), "soft", "middle");
  }
  svg.line(x(0), kTop, x(0), bottom, "axis");
  svg.text((left + right) / 2, bottom + 36, chart.x_label, "soft", "middle");

  top = kTop;
  for (const IntervalRow& row : chart.rows) {
    const double y = top + kRow / 2;
    svg.text(left - 10, y + 4, shortened(row.label, 30), "", "end");
    if (std::isfinite(row.low) && std::isfinite(row.high)) {
      svg.line(x(row.low), y, x(row.high), y, "whisker " + row.css);
      for (const double end : {row.low, row.high})
        svg.line(x(end), y - 5, x(end), y + 5, "whisker " + row.css);
    }
    if (std::isfinite(row.estimate)) svg.circle(x(row.estimate), y, 5, "dot " + row.css);
    top += kRow;
  }
  return svg;
}

}  // namespace lapidary
