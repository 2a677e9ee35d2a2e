// Log-probabilities from logits, in double, with exact zero for equal rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

// -log softmax(logits)[target] in nats. Throws kBadData when a logit is not a number.
double negative_log_likelihood(std::span<const float> logits, int32_t target);

struct PairedToken {
  double nll_base = 0, nll_candidate = 0;
  double kld = 0;  // base || candidate, nats; never negative
  bool same_top = false;
};

// Compares two rows of logits over the same vocabulary; holds scratch for one row.
class PairedSoftmax {
 public:
  PairedToken compare(std::span<const float> base, std::span<const float> candidate,
                      int32_t target);

 private:
  std::vector<double> weights_;  // exp(base logit - its maximum)
};

}  // namespace lapidary
