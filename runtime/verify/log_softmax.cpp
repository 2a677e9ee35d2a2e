// Everything in double: at a vocabulary of 262,144 a float sum loses the small differences we
// measure.
#include "runtime/verify/log_softmax.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "runtime/verify/scorer.h"

namespace lapidary {
namespace {

// log sum exp; `weights`, where given, receives exp(logit - maximum) and `sum` their sum.
double log_sum_exp(std::span<const float> logits, double* weights, double& sum) {
  const double top = *std::max_element(logits.begin(), logits.end());
  sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp(logits[i] - top);
    if (weights) weights[i] = weight;
    sum += weight;
  }
  const double result = top + std::log(sum);
  if (!std::isfinite(result))
    fail(ErrorCode::kBadData,
         "the model computed logits that are not numbers; its weights are damaged (try `lapidary "
         "inspect --verify`)");
  return result;
}

}  // namespace

double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  double sum;
  return log_sum_exp(logits, nullptr, sum) - logits[static_cast<size_t>(target)];
}

PairedToken PairedSoftmax::compare(std::span<const float> base, std::span<const float> candidate,
                                   int32_t target) {
  weights_.resize(base.size());
  double sum, candidate_sum;
  const double log_base = log_sum_exp(base, weights_.data(), sum);
  const double log_candidate = log_sum_exp(candidate, nullptr, candidate_sum);

  PairedToken token;
  token.nll_base = log_base - base[static_cast<size_t>(target)];
  token.nll_candidate = log_candidate - candidate[static_cast<size_t>(target)];
  token.same_top = greedy_token(base) == greedy_token(candidate);
  // sum p (log p - log q) = sum p (base - candidate) - (log_base - log_candidate): equal rows give
  // 0 - 0.
  double weighted = 0;
  for (size_t i = 0; i < base.size(); ++i)
    if (weights_[i] > 0) weighted += weights_[i] * (static_cast<double>(base[i]) - candidate[i]);
  // Rounding can take a divergence that is almost nothing below zero.
  token.kld = std::max(0.0, weighted / sum - (log_base - log_candidate));
  return token;
}

}  // namespace lapidary
