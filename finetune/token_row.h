// What one forward pass trains on: examples one after another, without padding.
#pragma once

#include <cstdint>
#include <vector>

namespace lapidary {

inline constexpr int32_t kNotLearned = -100;  // the label PyTorch's losses ignore

struct TokenRow {
  std::vector<int32_t> ids;     // of all examples
  std::vector<int32_t> labels;  // per token: its own id where it is to be learned, else kNotLearned
  std::vector<int64_t> lengths;  // tokens of each example; each starts at position 0
  // Per example: 1 where the answers of the untouched base are to be kept. Empty: nowhere.
  std::vector<uint8_t> keeps_base = {};

  // Tokens that are predicted: a label at an example's first token has nothing before it.
  int64_t n_learned() const { return count(false); }
  // The same within the examples that keep the base.
  int64_t n_kept() const { return keeps_base.empty() ? 0 : count(true); }

 private:
  int64_t count(bool only_kept) const {
    int64_t n = 0, begin = 0;
    for (size_t i = 0; i < lengths.size(); begin += lengths[i++]) {
      if (only_kept && !keeps_base[i]) continue;
      for (int64_t t = begin + 1; t < begin + lengths[i]; ++t)
        n += labels[static_cast<size_t>(t)] != kNotLearned;
    }
    return n;
  }
};

}  // namespace lapidary
