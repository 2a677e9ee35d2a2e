// Guesses from the constraint or the drafter.
#include "runtime/speculation.h"

#include <algorithm>

namespace lapidary {

Speculation::Speculation(const DraftOptions& options, int64_t d_model)
    : length_(options.tokens), d_model_(d_model) {
  if (options.tokens == 0) return;
  if (options.assistant)
    drafter_ = std::make_unique<AssistantDrafter>(*options.assistant);
  else
    drafter_ = std::make_unique<LookupDrafter>();
  if (drafter_->wants_state()) states_.resize(static_cast<size_t>((options.tokens + 1) * d_model));
}

void Speculation::guess(std::span<const int32_t> tokens, Sequence& sequence, int64_t most,
                        Matcher* constraint, std::vector<int32_t>& fed) {
  if (!drafter_ || most <= 0) return;
  most = std::min(most, length_.next());
  if (most <= 0) return;
  if (constraint) {
    const std::vector<int32_t> forced = constraint->forced_tokens();
    fed.insert(fed.end(), forced.begin(), forced.begin() + std::min(most, std::ssize(forced)));
  }
  if (fed.size() > 1) return;
  const std::span<const float> states = states_;
  drafter_->guess(
      {tokens, sequence,
       states_.empty() ? states : states.subspan(size_t(last_state_ * d_model_), size_t(d_model_))},
      most, fed);
}

void Speculation::record(int64_t n_guessed, int64_t n_held) {
  if (!drafter_) return;
  last_state_ = n_held;
  length_.record(n_guessed, n_held);
}

}  // namespace lapidary
