// Guessing tokens ahead, so that one step can check several at once.
//
// A guess costs nothing but time: the step gives the model's own logits behind each guessed token,
// every token is chosen from them exactly as without guesses, and the first choice that differs
// from its guess ends the run. So answers are the same token by token, sampled ones too.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/kv_cache.h"

namespace lapidary {

// What a drafter may look at: the text so far, prompt and answer, of which the sequence holds all
// tokens but the last. It changes nothing.
struct DraftContext {
  std::span<const int32_t> tokens;
  Sequence& sequence;
  // [d_model]: the final norm's output of the last token that the sequence holds; empty unless
  // wants_state().
  std::span<const float> state = {};
};

// One for each answer.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual bool wants_state() const { return false; }
  // Appends up to `most` tokens that may come next to `draft`, which may hold some already.
  virtual void guess(const DraftContext& context, int64_t most, std::vector<int32_t>& draft) = 0;
};

// Prompt lookup: what followed the last time the last few tokens were said. Finds quotations, code
// being edited, names and repeated structure, and costs a hash of three tokens.
// Source: Saxena, "Prompt Lookup Decoding", 2023.
class LookupDrafter final : public Drafter {
 public:
  void guess(const DraftContext& context, int64_t most, std::vector<int32_t>& draft) override;

 private:
  static constexpr int kLongest = 4, kShortest = 2;  // tokens that must agree
  std::unordered_map<uint64_t, int64_t> behind_[kLongest - kShortest + 1];
  int64_t n_indexed_ = 0;
};

// How many tokens to guess: more while guesses hold, fewer and then none for a while when they do
// not.
class DraftLength {
 public:
  explicit DraftLength(int64_t most) : most_(most), length_(most < 3 ? most : 3) {}
  int64_t next() { return n_pauses_ > 0 ? (--n_pauses_, 0) : length_; }
  void record(int64_t n_guessed, int64_t n_held);

 private:
  static constexpr int64_t kLongestPause = 32;
  int64_t most_, length_, n_pauses_ = 0, next_pause_ = 1;
};

}  // namespace lapidary
