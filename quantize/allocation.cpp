// The table of the knapsack, what its cells leave over, and the hull for the curve.
#include "quantize/allocation.h"

#include <algorithm>
#include <limits>

#include "formats/error.h"

namespace lapidary {
namespace {

// Indices of one tensor's choices, bytes rising, of equal ones the cheaper first.
std::vector<size_t> by_size(const std::vector<CodeChoice>& choices) {
  std::vector<size_t> order(choices.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return choices[a].bytes != choices[b].bytes ? choices[a].bytes < choices[b].bytes
                                                : choices[a].kld < choices[b].kld;
  });
  return order;
}

// Those of them on the lower convex hull, costs falling.
std::vector<size_t> hull_of(const std::vector<CodeChoice>& choices) {
  LAPIDARY_CHECK(!choices.empty());
  const auto slope = [&](size_t a, size_t b) {  // cost saved per byte
    return (choices[a].kld - choices[b].kld) /
           static_cast<double>(choices[b].bytes - choices[a].bytes);
  };
  std::vector<size_t> hull;
  for (const size_t i : by_size(choices)) {
    if (!hull.empty() && !(choices[i].kld < choices[hull.back()].kld)) continue;
    if (!hull.empty() && choices[i].bytes == choices[hull.back()].bytes) continue;
    while (hull.size() > 1 && slope(hull[hull.size() - 2], hull.back()) <= slope(hull.back(), i))
      hull.pop_back();
    hull.push_back(i);
  }
  return hull;
}

template <class T>
T least(const std::vector<CodeChoice>& choices, T CodeChoice::*what) {
  return (*std::ranges::min_element(choices, {}, what)).*what;
}

struct Step {
  size_t tensor, to;
  uint64_t bytes;  // more than before
  double saved;    // cost
  double worth() const { return saved / static_cast<double>(bytes); }
};

// All hull steps, the most worth first. Steps of one tensor keep their order: a hull's slopes fall.
std::vector<Step> hull_steps(const Menu& menu, Selection* smallest) {
  std::vector<Step> steps;
  for (size_t t = 0; t < menu.size(); ++t) {
    const std::vector<size_t> hull = hull_of(menu[t]);
    smallest->push_back(hull.front());
    for (size_t i = 1; i < hull.size(); ++i) {
      const CodeChoice &from = menu[t][hull[i - 1]], &to = menu[t][hull[i]];
      steps.push_back({t, hull[i], to.bytes - from.bytes, from.kld - to.kld});
    }
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.worth() > b.worth(); });
  return steps;
}

// Least costs of the first tensors within so many cells of bytes beyond their smallest choices.
class CostTable {
 public:
  static constexpr uint64_t kCells = 1 << 14;

  // For up to `spare` bytes beyond the smallest choices. A choice takes whole cells, so no
  // selection is ever larger than it seems.
  CostTable(const Menu& menu, uint64_t spare)
      : menu_(menu), cell_bytes_(std::max<uint64_t>(1, (spare + kCells - 1) / kCells)) {
    const size_t n_cells = spare / cell_bytes_ + 1;
    costs_.assign(n_cells, 0.0);
    std::vector<double> next(n_cells);
    for (size_t t = 0; t < menu.size(); ++t) {
      std::vector<uint8_t>& picked = picked_.emplace_back(n_cells);
      std::fill(next.begin(), next.end(), std::numeric_limits<double>::infinity());
      for (const size_t i : by_size(menu[t])) {
        const size_t taken = cells_of(t, i);
        for (size_t cell = taken; cell < n_cells; ++cell) {
          const double cost = costs_[cell - taken] + menu[t][i].kld;
          if (!(cost < next[cell])) continue;
          next[cell] = cost;
          picked[cell] = static_cast<uint8_t>(i);
        }
      }
      costs_.swap(next);
    }
  }

  Selection within_all() const { return selection(costs_.size() - 1); }
  // Of the fewest cells whose cost is at most `kld`.
  std::optional<Selection> within_kld(double kld) const {
    for (size_t cell = 0; cell < costs_.size(); ++cell)
      if (costs_[cell] <= kld) return selection(cell);
    return std::nullopt;
  }

 private:
  size_t cells_of(size_t t, size_t i) const {
    const uint64_t more = menu_[t][i].bytes - least(menu_[t], &CodeChoice::bytes);
    return (more + cell_bytes_ - 1) / cell_bytes_;
  }
  Selection selection(size_t cell) const {
    Selection selection(menu_.size());
    for (size_t t = menu_.size(); t-- > 0;) {
      selection[t] = picked_[t][cell];
      cell -= cells_of(t, selection[t]);
    }
    return selection;
  }

  const Menu& menu_;
  uint64_t cell_bytes_;
  std::vector<double> costs_;                 // of all tensors, by cells
  std::vector<std::vector<uint8_t>> picked_;  // by tensor and cells
};

// Takes, as long as one fits, the change of one tensor that saves the most cost per byte.
void fill(const Menu& menu, uint64_t budget, Selection* selection) {
  uint64_t used = bytes_of(menu, *selection);
  for (;;) {
    Step best{0, 0, 1, 0};
    for (size_t t = 0; t < menu.size(); ++t) {
      const CodeChoice& now = menu[t][(*selection)[t]];
      for (size_t i = 0; i < menu[t].size(); ++i) {
        const CodeChoice& other = menu[t][i];
        if (!(other.kld < now.kld) || other.bytes > now.bytes + (budget - used)) continue;
        // Free improvements (never on a hull, but menus may hold equal sizes) count as one byte.
        const uint64_t more = other.bytes > now.bytes ? other.bytes - now.bytes : 1;
        const Step step{t, i, more, now.kld - other.kld};
        if (step.worth() > best.worth()) best = step;
      }
    }
    if (best.saved <= 0) return;
    used = used - menu[best.tensor][(*selection)[best.tensor]].bytes +
           menu[best.tensor][best.to].bytes;
    (*selection)[best.tensor] = best.to;
  }
}

}  // namespace

uint64_t bytes_of(const Menu& menu, const Selection& selection) {
  uint64_t bytes = 0;
  for (size_t t = 0; t < menu.size(); ++t) bytes += menu[t][selection[t]].bytes;
  return bytes;
}

double kld_of(const Menu& menu, const Selection& selection) {
  double kld = 0;
  for (size_t t = 0; t < menu.size(); ++t) kld += menu[t][selection[t]].kld;
  return kld;
}

std::optional<Selection> cheapest_within(const Menu& menu, uint64_t budget) {
  uint64_t smallest = 0;
  for (const auto& choices : menu) smallest += least(choices, &CodeChoice::bytes);
  if (smallest > budget) return std::nullopt;
  Selection selection = CostTable(menu, budget - smallest).within_all();
  fill(menu, budget, &selection);
  return selection;
}

std::optional<Selection> smallest_within(const Menu& menu, double limit) {
  uint64_t more = 0;  // bytes than the smallest choices take
  for (const auto& choices : menu) {
    const auto best = std::ranges::min_element(choices, {}, &CodeChoice::kld);
    more += best->bytes - least(choices, &CodeChoice::bytes);
  }
  // Every choice is rounded up to whole cells: with one more for each tensor even the best of all
  // lie within the table.
  more += menu.size() * (more / (CostTable::kCells / 2) + 1);
  std::optional<Selection> found = CostTable(menu, more).within_kld(limit);
  if (!found) return std::nullopt;
  Selection& selection = *found;
  // What cells were rounded up by: give back what the limit does not need, the largest saving
  // first.
  for (;;) {
    const double spare = limit - kld_of(menu, selection);
    size_t tensor = menu.size(), to = 0;
    uint64_t saved = 0;
    for (size_t t = 0; t < menu.size(); ++t) {
      const CodeChoice& now = menu[t][selection[t]];
      for (size_t i = 0; i < menu[t].size(); ++i) {
        const CodeChoice& other = menu[t][i];
        if (other.bytes >= now.bytes || other.kld - now.kld > spare) continue;
        if (now.bytes - other.bytes > saved) tensor = t, to = i, saved = now.bytes - other.bytes;
      }
    }
    if (saved == 0) return found;
    selection[tensor] = to;
  }
}

std::vector<Selection> frontier(const Menu& menu) {
  Selection selection;
  const std::vector<Step> steps = hull_steps(menu, &selection);
  std::vector<Selection> points{selection};
  for (const Step& step : steps) {
    selection[step.tensor] = step.to;
    points.push_back(selection);
  }
  return points;
}

}  // namespace lapidary
