// What one forward pass trains on: examples one after another, without padding.
#pragma once

#include <cstdint>
#include <vector>

namespace lapidary {

inline constexpr int32_t kNotLearned = -100;  // the label PyTorch's losses ignore

// Which predictions of an example are to stay those of the untouched base.
enum class Keep : uint8_t {
  kNothing,
  kPrompt,  // of what is only read: the example's answers are new, its questions are not
  kAll,
};

struct TokenRow {
  std::vector<int32_t> ids;     // of all examples
  std::vector<int32_t> labels;  // per token: its own id where it is to be learned, else kNotLearned
  std::vector<int64_t> lengths;  // tokens of each example; each starts at position 0
  std::vector<Keep> keeps = {};  // per example. Empty: nothing is kept

  // Calls f(example, t) for every token t of the row that something stands before: those are
  // predicted, from the state of t - 1.
  template <class F>
  void for_predicted(F&& f) const {
    int64_t begin = 0;
    for (size_t i = 0; i < lengths.size(); begin += lengths[i++])
      for (int64_t t = begin + 1; t < begin + lengths[i]; ++t) f(i, t);
  }
  bool is_learned(int64_t t) const { return labels[static_cast<size_t>(t)] != kNotLearned; }
  bool is_kept(size_t example, int64_t t, Keep kind) const {
    return !keeps.empty() && keeps[example] == kind && kind != Keep::kNothing &&
           (kind == Keep::kAll || !is_learned(t));
  }

  int64_t n_learned() const {
    int64_t n = 0;
    for_predicted([&](size_t, int64_t t) { n += is_learned(t); });
    return n;
  }
  int64_t n_kept(Keep kind) const {
    int64_t n = 0;
    for_predicted([&](size_t i, int64_t t) { n += is_kept(i, t, kind); });
    return n;
  }
};

}  // namespace lapidary
