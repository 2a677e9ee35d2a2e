// One answer that somebody waits for: what is asked of the scheduler, and what it tells on the way.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/adapter.h"
#include "runtime/candidate.h"
#include "runtime/grammar/constraint.h"
#include "runtime/sampling.h"

namespace lapidary {

using Clock = std::chrono::steady_clock;

// A new token of an answer, stop tokens included.
struct TokenEvent {
  int32_t token;
  float log_probability = 0;  // natural, of the model itself: before penalties, bias and mask
  std::vector<Candidate> best = {};  // n_log_probabilities of them with their log-probabilities
};

// How an answer ended.
enum class FinishReason {
  kStop,       // a stop token, a complete constraint, or on_token() had enough
  kLength,     // max_tokens
  kContext,    // the sequence is full
  kCancelled,  // cancel(), or the scheduler closes
  kDeadline,   // over its time
  kError       // see Finish::error
};

// "stop", "length", "context", "cancelled", "deadline", "error".
const char* to_string(FinishReason reason);

struct Finish {
  FinishReason reason = FinishReason::kStop;
  std::string error;              // one line; empty unless kError
  int64_t prompt_tokens = 0;      // of the prompt
  int64_t cached_tokens = 0;      // of these, taken from the prefix cache
  int64_t new_tokens = 0;         // given to on_token()
  std::vector<float> mean_state;  // [d_model], when Request::wants_mean_state
  double seconds_to_first = 0;    // from submit() to the first token
};

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 256;     // 0: the prompt alone
  SamplingOptions sampling;
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to logits before sampling
  std::vector<int32_t> stop_ids;
  std::shared_ptr<const Constraint> constraint;  // null: anything
  int64_t constrain_after = -1;  // the constraint begins behind this token's first occurrence in
                                 // the answer; -1: at once
  std::shared_ptr<const Adapter> adapter;  // null: the base model
  int n_log_probabilities = -1;            // -1: none are wanted; 0: of the chosen token alone
  bool wants_mean_state = false;  // mean of the final norm's output over the prompt's tokens
  std::string account;            // who asks: accounts take turns when there is more work than room
  std::optional<Clock::time_point> deadline;

  // Both are called on the scheduler's thread and must not block. on_token() returns false when it
  // has enough: the answer then ends with kStop. on_finish() comes exactly once, last.
  std::function<bool(const TokenEvent&)> on_token;
  std::function<void(const Finish&)> on_finish;
};

}  // namespace lapidary
