// Hull steps in order of worth, then repair.
#include "quantize/allocation.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

// Indices of one tensor's choices on the lower convex hull, bytes rising and costs falling.
std::vector<size_t> hull_of(const std::vector<CodeChoice>& choices) {
  LAPIDARY_CHECK(!choices.empty());
  std::vector<size_t> order(choices.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return choices[a].bytes != choices[b].bytes ? choices[a].bytes < choices[b].bytes
                                                : choices[a].kld < choices[b].kld;
  });
  const auto slope = [&](size_t a, size_t b) {  // cost saved per byte
    return (choices[a].kld - choices[b].kld) /
           static_cast<double>(choices[b].bytes - choices[a].bytes);
  };
  std::vector<size_t> hull;
  for (const size_t i : order) {
    if (!hull.empty() && !(choices[i].kld < choices[hull.back()].kld)) continue;
    if (!hull.empty() && choices[i].bytes == choices[hull.back()].bytes) continue;
    while (hull.size() > 1 && slope(hull[hull.size() - 2], hull.back()) <= slope(hull.back(), i))
      hull.pop_back();
    hull.push_back(i);
  }
  return hull;
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
  Selection selection;
  const std::vector<Step> steps = hull_steps(menu, &selection);
  uint64_t used = bytes_of(menu, selection);
  if (used > budget) return std::nullopt;
  for (const Step& step : steps) {
    if (step.bytes > budget - used) break;
    selection[step.tensor] = step.to;
    used += step.bytes;
  }
  fill(menu, budget, &selection);
  return selection;
}

std::optional<Selection> smallest_within(const Menu& menu, double limit) {
  Selection selection;
  const std::vector<Step> steps = hull_steps(menu, &selection);
  for (const Step& step : steps) {
    if (kld_of(menu, selection) <= limit) break;
    selection[step.tensor] = step.to;
  }
  if (kld_of(menu, selection) > limit) return std::nullopt;
  // The last step overshoots: give back what the limit does not need, the largest saving first.
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
    if (saved == 0) return selection;
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
