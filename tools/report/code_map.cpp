// Cells on a grid; their names where there is room for them.
#include "tools/report/code_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lapidary {
namespace {

constexpr double kRow = 26, kTop = 48, kNarrowest = 22;

// Six shades: up to 3.5 bits, 4.5, 5.5, 6.5, 9, and more.
int shade(double bits) {
  int shade = 0;
  for (const double limit : {3.6, 4.6, 5.6, 6.6, 9.0}) shade += bits > limit;
  return shade;
}

}  // namespace

Svg draw(const CodeMap& map) {
  size_t longest = 0;
  for (const auto& [name, cells] : map.rows) longest = std::max(longest, name.size());
  const double left = std::clamp(7.0 * static_cast<double>(longest) + 12, 60.0, 240.0);
  const double cell = (map.width - left) / std::max(1, map.n_layers);
  Svg svg(map.width, kTop + kRow * static_cast<double>(map.rows.size()) + 4, map.title);
  svg.text(0, 16, map.title, "strong big");
  const int every = static_cast<int>(std::ceil(kNarrowest / cell));
  for (int layer = 0; layer < map.n_layers; layer += every)
    svg.text(left + (layer + 0.5) * cell, kTop - 8, std::to_string(layer), "soft", "middle");
  double top = kTop;
  for (const auto& [name, cells] : map.rows) {
    svg.text(left - 10, top + 17, name, "", "end");
    for (const auto& [layer, c] : cells) {
      const double x = left + layer * cell;
      svg.rect(x + 1, top + 1, std::max(1.0, cell - 2), kRow - 2,
               fmt::format("heat h{}", shade(c.bits)), 3, c.hint);
      if (cell >= kNarrowest) svg.text(x + cell / 2, top + 17, c.code, "", "middle");
    }
    top += kRow;
  }
  return svg;
}

}  // namespace lapidary
