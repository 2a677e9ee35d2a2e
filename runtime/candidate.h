// Tokens with their logits, and short lists of the best.
//
// The order is total, higher logit first, then lower id, so a list does not depend on the order in
// which candidates come. Empty places hold minus infinity, which like NaN never enters a list.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

namespace lapidary {

inline constexpr int kMostBest = 64;  // of one row that a step returns: Gemma's top_k

struct Candidate {
  float logit = -INFINITY;
  int32_t id = 0;
};

inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Puts the candidate into its place in `best`, a sorted list that is not empty; the last one drops.
inline void keep_best(const Candidate& candidate, std::span<Candidate> best) {
  if (!(candidate.logit > -INFINITY) || !better(candidate, best.back())) return;
  size_t at = best.size() - 1;
  for (; at > 0 && better(candidate, best[at - 1]); --at) best[at] = best[at - 1];
  best[at] = candidate;
}

// The same for the logits of consecutive ids, larger than all ids in the list.
inline void keep_best(std::span<const float> logits, int64_t first_id, std::span<Candidate> best) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > best.back().logit)
      keep_best({logits[i], static_cast<int32_t>(first_id + static_cast<int64_t>(i))}, best);
}

}  // namespace lapidary
