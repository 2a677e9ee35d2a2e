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

  // Tokens that are predicted: a label at an example's first token has nothing before it.
  int64_t n_learned() const {
    int64_t n = 0, begin = 0;
    for (const int64_t length : lengths) {
      for (int64_t t = begin + 1; t < begin + length; ++t)
        n += labels[static_cast<size_t>(t)] != kNotLearned;
      begin += length;
    }
    return n;
  }
};

}  // namespace lapidary
