// How much of prompts a step may read while answers are being written.
//
// Whoever reads an answer feels the longest gap between its tokens. A prompt's chunk makes the step
// longer, so chunks are cut such that a step takes at most kMostStretch times as long as one
// without: prompts then get the rest of the machine and no answer stutters. Timing decides who
// waits, never what anybody is told.
//
// A step reads the weights once, whatever it is for, and multiplies for each of its tokens:
//   seconds = fixed + token * (tokens of answers and prompts).
// Both are fitted to the steps themselves by least squares, newer ones counting more. A mean of
// steps with prompts and one of steps without would not do: while prompts wait there are none
// without, and whatever is guessed for those is never put right.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lapidary {

class StepPace {
 public:
  // After a step of n_running tokens of answers and n_prompt of prompts.
  void record(int64_t n_running, int64_t n_prompt, double seconds) {
    if (is_first_) {  // it waited for weights to come from the disk
      is_first_ = false;
      return;
    }
    const double n = static_cast<double>(n_running + n_prompt);
    for (double* sum : {&steps_, &tokens_, &squares_, &seconds_, &products_}) *sum *= kForget;
    steps_ += 1;
    tokens_ += n;
    squares_ += n * n;
    seconds_ += seconds;
    products_ += n * seconds;
  }
  // Tokens of prompts for a step in which `n_running` answers go on, at most `most`.
  int64_t prompt_tokens(int64_t n_running, int64_t most) const {
    if (n_running == 0) return most;
    const double n = (kMostStretch - 1) * (tokens_per_reading() + static_cast<double>(n_running));
    return static_cast<int64_t>(std::min(n, static_cast<double>(most)));
  }

  // How many tokens' products take as long as what a step costs without any: fixed / token.
  double tokens_per_reading() const {
    const double spread = steps_ * squares_ - tokens_ * tokens_;
    if (steps_ < 2 || spread < kLeastSpread * tokens_ * tokens_) return kUsual;
    const double token = (steps_ * products_ - tokens_ * seconds_) / spread;
    const double fixed = (seconds_ - token * tokens_) / steps_;
    // Disturbed steps can say anything, even that tokens save time.
    return token <= 0 ? kMost : std::clamp(fixed / token, kLeast, kMost);
  }

 private:
  static constexpr double kMostStretch = 3;  // the promise is 4 times the median; leave room
  static constexpr double kForget = 0.95;    // what an earlier step counts beside the next
  // Until steps differ enough in length to tell, and never beyond: CPUs of today are between.
  static constexpr double kUsual = 32, kLeast = 8, kMost = 128;
  static constexpr double kLeastSpread = 0.01;  // variance over squared mean
  bool is_first_ = true;
  double steps_ = 0, tokens_ = 0, squares_ = 0, seconds_ = 0, products_ = 0;
};

}  // namespace lapidary
