// The smallest choice whose divergence is measured to be within a limit: predictions choose, what
// is measured of the choice corrects them, and it is made again.
#pragma once

#include <functional>
#include <optional>

#include "formats/events.h"
#include "quantize/allocation.h"

namespace lapidary {

class KldLimit {
 public:
  using Predict = std::function<double(const Selection&)>;
  // `nats` per token; `predict` says what costs tell of all tensors of a choice together.
  KldLimit(double nats, Predict predict) : nats_(nats), aim_(nats), predict_(std::move(predict)) {}

  // Predictions by the last measurement.
  double correction() const { return correction_; }
  double corrected(const Selection& selection) const { return correction_ * predict_(selection); }

  // The smallest choice of `menu` predicted within the limit; nothing when its best is not. Costs
  // in the menu need not add up to the prediction: what they miss counts as a factor.
  std::optional<Selection> choose(const Menu& menu) const;

  struct Choice {
    Selection selection;
    std::optional<double> measured;  // none: no choice was measured within the limit
  };
  // From a first choice of `menu` on, `measure` and `choose` in turn, up to three times: the
  // smallest that was measured within the limit, else the last, and a note says so. Passes on what
  // they throw.
  Choice settle(const Menu& menu, Selection first, const Predict& measure,
                const std::function<Selection()>& choose, const Events& events);

 private:
  double nats_, aim_;
  Predict predict_;
  double correction_ = 1;
};

// Of each tensor the choice with the least cost.
Selection best_of(const Menu& menu);

}  // namespace lapidary
