// One axis of a chart: numbers to pixels, round ticks and their labels.
#pragma once

#include <string>
#include <vector>

namespace lapidary {

class Axis {
 public:
  // Maps [low, high] to [from, to] pixels; an empty range is widened around its value.
  Axis(double low, double high, double from, double to);
  double operator()(double value) const {
    return from_ + (value - low_) / (high_ - low_) * (to_ - from_);
  }
  std::vector<double> ticks(int wanted) const;  // inside the range
  std::string label(double tick) const;         // as many decimals as the last ticks() need

 private:
  double low_, high_, from_, to_;
  mutable double step_ = 0;
};

}  // namespace lapidary
