// How much of prompts a step may read while answers are being written.
//
// Whoever reads an answer feels the longest gap between its tokens. A prompt's chunk makes the step
// longer, so chunks are cut such that a step takes at most kMostStretch times as long as one
// without: prompts then get the rest of the machine and no answer stutters. What steps cost is
// learned from the steps themselves; timing decides who waits, never what anybody is told.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lapidary {

class StepPace {
 public:
  // After a step of n_running tokens of answers and n_prompt of prompts.
  void record(int64_t n_running, int64_t n_prompt, double seconds) {
    const double n = static_cast<double>(n_prompt);
    if (n_prompt == 0)
      follow(running_seconds_, seconds);
    else if (n_running == 0)
      follow(prompt_token_seconds_, seconds / n);
    else if (running_seconds_ > 0)
      follow(prompt_token_seconds_, std::max(0.0, seconds - running_seconds_) / n);
    else if (prompt_token_seconds_ > 0)  // no step without a prompt yet
      running_seconds_ = std::max(seconds / 4, seconds - n * prompt_token_seconds_);
  }
  // Tokens of prompts for a step in which `n_running` answers go on, at most `most`.
  int64_t prompt_tokens(int64_t n_running, int64_t most) const {
    if (n_running == 0) return most;
    if (running_seconds_ <= 0 || prompt_token_seconds_ <= 0) return std::min(most, kFirst);
    const double n = (kMostStretch - 1) * running_seconds_ / prompt_token_seconds_;
    return n < static_cast<double>(kLeast) ? std::min(most, kLeast)
                                           : static_cast<int64_t>(std::min(n, double(most)));
  }

 private:
  static constexpr double kMostStretch = 3;  // the promise is 4 times the median; leave room
  static constexpr int64_t kLeast = 8;       // so that prompts never stand still
  static constexpr int64_t kFirst = 64;      // before anything is known
  static constexpr double kWeight = 0.2;     // of the newest step
  static void follow(double& mean, double value) {
    mean = mean == 0 ? value : mean + kWeight * (value - mean);
  }
  double running_seconds_ = 0, prompt_token_seconds_ = 0;  // 0: not known yet
};

}  // namespace lapidary
