// Two loops: over predictions until they are near the limit, and over measurements.
#include "quantize/kld_limit.h"

#include <fmt/format.h>

#include <algorithm>

namespace lapidary {
namespace {

// A correction after the first measurement, and one more for what the correction moved.
constexpr int kMostChecks = 3;
// Of the limit, once a choice has missed it: a correction is seldom right to the last percent.
constexpr double kAfterMiss = 0.99;

}  // namespace

Selection best_of(const Menu& menu) {
  Selection selection;
  for (const auto& choices : menu)
    selection.push_back(static_cast<size_t>(
        std::ranges::min_element(choices, std::less(), &CodeChoice::kld) - choices.begin()));
  return selection;
}

std::optional<Selection> KldLimit::choose(const Menu& menu) const {
  Selection selection = best_of(menu);
  if (corrected(selection) > nats_) return std::nullopt;
  double factor = correction_;
  for (int i = 0; i < 4; ++i) {
    const auto next = smallest_within(menu, aim_ / factor);
    if (!next) break;
    const double truth = corrected(*next);
    if (truth <= aim_) selection = *next;
    if (truth <= aim_ && truth > 0.98 * aim_) break;
    factor = truth / kld_of(menu, *next);
  }
  return selection;
}

KldLimit::Choice KldLimit::settle(const Menu& menu, Selection first, const Predict& measure,
                                  const std::function<Selection()>& choose, const Events& events) {
  Choice kept;
  Selection selection = std::move(first);
  for (int check = 0; check < kMostChecks; ++check) {
    const double predicted = corrected(selection), measured = measure(selection);
    events.note(
        fmt::format("predicted KLD {:.5f}, measured {:.5f} on other tokens", predicted, measured));
    if (measured <= nats_ &&
        (!kept.measured || bytes_of(menu, selection) < bytes_of(menu, kept.selection)))
      kept = {selection, measured};
    if (measured > nats_) aim_ = kAfterMiss * nats_;
    if (measured <= 0 || predicted <= 0) break;
    correction_ *= measured / predicted;
    Selection next = choose();
    if (next == selection) break;
    selection = std::move(next);
  }
  if (!kept.measured) {
    events.note(
        fmt::format("no choice was measured within {}; the last is predicted within it", nats_));
    kept.selection = std::move(selection);
  }
  return kept;
}

}  // namespace lapidary
