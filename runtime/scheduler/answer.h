// One request on its way: its sequence, what it has said so far, and how its next token is chosen.
//
// The scheduler feeds it tokens and hands it the logits it asked for; everything here depends on
// the request alone, so that an answer is the same whoever else is served. Choosing tokens may run
// beside other answers' (choose()); the request's functions are called by deliver() alone.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "runtime/engine.h"
#include "runtime/scheduler/request.h"
#include "runtime/scheduler/scheduler.h"
#include "runtime/speculation.h"

namespace lapidary {

// Rows of one answer's part of a step: either whole rows of logits or the best of each.
struct AnswerRows {
  std::span<const float> logits;    // [n, vocab_size]
  std::span<const Candidate> best;  // [n, n_best]
  int n_best = 0;                   // 0: logits hold
};

class Answer {
 public:
  Answer(RequestId id, Request request, const ModelConfig& config, int64_t context);

  RequestId id() const { return id_; }
  const Request& request() const { return request_; }
  // Tokens that its sequence holds at most: the prompt and all new tokens but the last, cut to the
  // context.
  int64_t capacity() const { return capacity_; }
  bool is_over(Clock::time_point now) const {
    return request_.deadline && *request_.deadline <= now;
  }

  // Makes what a running answer needs; the sequence must be empty and hold capacity().
  void begin(std::unique_ptr<Sequence> sequence, const DraftOptions& draft);
  Sequence& sequence() { return *sequence_; }
  std::span<const int32_t> tokens() const { return tokens_; }  // prompt and answer
  bool in_prompt() const { return n_fed_ < n_prompt_; }
  // How many pages of its prompt begin another's prompt as well, and leave it a token to read.
  int64_t common_pages(const Answer& other) const;
  // The sequence holds the first tokens of the prompt already.
  void took_prefix(int64_t n_tokens);
  int64_t prompt_left() const { return n_prompt_ - n_fed_; }

  // How the next token is chosen: from as many best tokens; 0: from all logits.
  int n_best() const;
  // Part of the next step, valid until it has been computed: up to n_tokens of the prompt, or the
  // last token and up to n_tokens - 1 guesses behind it.
  BatchItem next(int64_t n_tokens);
  // How many rows of logits next() asked for.
  int64_t n_wanted() const { return n_wanted_; }
  // After the step: chooses tokens where logits were wanted. Does not throw; thread-safe against
  // other answers.
  void choose(const AnswerRows& rows) noexcept;
  // Gives what was chosen to the request. True when the answer has ended.
  bool deliver();
  void fail(const std::string& error);
  // Tells the request how it ended. REQUIRES: called once, last.
  void finish(FinishReason reason);
  FinishReason reason() const { return reason_.value_or(FinishReason::kError); }
  int64_t n_new() const { return n_given_; }
  int64_t n_guessed() const { return n_guessed_; }  // in the last step
  int64_t n_held() const { return n_held_; }        // of these, what was chosen indeed

  // What the scheduler notes about it.
  uint64_t kv_bytes = 0;     // counted for it
  uint64_t turn = 0;         // when it was last given room for its prompt
  bool has_begun = false;    // its prompt's known prefix is there, or none is
  int64_t n_kept_pages = 0;  // of the sequence, given to the prefix cache or taken from it

 private:
  void guess(int64_t most);
  TokenEvent choose_one(const AnswerRows& rows, int64_t row);
  int32_t pick(const AnswerRows& rows, int64_t row, TokenEvent& event);
  bool is_constrained() const { return matcher_ && constrains_; }
  bool wants_bias_or_log() const {
    return request_.n_log_probabilities >= 0 || !request_.logit_bias.empty();
  }
  // Why the answer ends behind the token just chosen, if it does.
  std::optional<FinishReason> end_after(int32_t token) const;

  const RequestId id_;
  Request request_;
  const Clock::time_point submitted_ = Clock::now();
  int64_t vocab_size_, d_model_, n_prompt_, capacity_;
  std::vector<int32_t> tokens_;
  int64_t n_fed_ = 0;  // of tokens_, in the sequence or in the step at hand
  int64_t n_wanted_ = 0;

  std::unique_ptr<Sequence> sequence_;
  std::optional<Sampler> sampler_;
  std::optional<Matcher> matcher_;
  std::optional<Speculation> speculation_;
  std::vector<int32_t> fed_;  // the last token and the guesses behind it
  int64_t n_guessed_ = 0, n_held_ = 0;
  bool constrains_ = false;         // the constraint has begun
  std::vector<float> biased_;       // a row with logit_bias
  std::vector<double> state_sum_;   // [d_model], when asked for
  std::vector<TokenEvent> chosen_;  // not yet given to the request
  std::optional<FinishReason> reason_;
  std::string error_;
  int64_t n_given_ = 0;
  double seconds_to_first_ = 0;
  int64_t cached_tokens_ = 0;
};

}  // namespace lapidary
