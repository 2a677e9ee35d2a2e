// Greedy answers with nothing but begin() and append(): the plain way that a batching scorer must
// equal.
#include "runtime/verify/scorer.h"

#include <algorithm>

namespace lapidary {

int32_t greedy_token(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<std::vector<int32_t>> Scorer::answer_all(std::span<const GreedyRequest> requests,
                                                     std::span<const int32_t> stop_ids,
                                                     const std::function<void(size_t)>& done) {
  std::vector<std::vector<int32_t>> answers;
  for (const GreedyRequest& request : requests) {
    std::vector<int32_t>& answer = answers.emplace_back();
    const int64_t n = static_cast<int64_t>(request.prompt.size());
    begin(n + request.max_tokens);
    std::span<const float> logits;
    for (int64_t at = 0; at < n; at += max_chunk()) {
      const int64_t count = std::min(max_chunk(), n - at);
      logits = append(std::span(request.prompt).subspan(at, count), at + count == n ? 1 : 0);
    }
    while (static_cast<int64_t>(answer.size()) < request.max_tokens) {
      const int32_t token = greedy_token(logits);
      if (std::find(stop_ids.begin(), stop_ids.end(), token) != stop_ids.end()) break;
      answer.push_back(token);
      if (static_cast<int64_t>(answer.size()) < request.max_tokens)
        logits = append({&answer.back(), 1}, 1);
    }
    if (done) done(answers.size());
  }
  return answers;
}

}  // namespace lapidary
