// How one answer's tokens are guessed ahead, and what came of the guesses.
//
// Whoever computes the answer feeds its last token with the guesses behind it in one step, chooses
// tokens from the logits as if there were none, and stops at the first that differs from its guess;
// then the sequence is cut behind what held.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/assistant.h"
#include "runtime/drafter.h"
#include "runtime/grammar/constraint.h"

namespace lapidary {

// Guessed by an assistant where nobody says how many.
inline constexpr int kAssistantTokens = 8;

// `asked` tokens ahead, where 0 leaves it to who guesses: an assistant guesses some, the text so
// far none.
inline int tokens_ahead(int asked, bool has_assistant) {
  return asked == 0 && has_assistant ? kAssistantTokens : asked;
}

struct DraftOptions {
  int tokens = 0;                  // guessed ahead at most, below kRollbackTokens; 0: none
  Assistant* assistant = nullptr;  // who guesses; null: prompt lookup. Used between steps
};

class Speculation {
 public:
  Speculation(const DraftOptions& options, int64_t d_model);

  // Appends up to `most` guesses to `fed`, whose one token is the text's last. What the constraint
  // (null: none) leaves no choice about comes first.
  void guess(std::span<const int32_t> tokens, Sequence& sequence, int64_t most, Matcher* constraint,
             std::vector<int32_t>& fed);
  // For BatchItem::states of the steps whose last logits are wanted; null when nobody asks.
  float* states() { return states_.empty() ? nullptr : states_.data(); }
  // After a step, when tokens are chosen: so many were guessed, and so many of these held.
  void record(int64_t n_guessed, int64_t n_held);

 private:
  std::unique_ptr<Drafter> drafter_;  // null: no guesses
  DraftLength length_;
  std::vector<float> states_;  // [guesses at most + 1, d_model], when the drafter wants them
  int64_t d_model_, last_state_ = 0;
};

}  // namespace lapidary
