// From logits to tokens, and from tokens to the request's functions.
#include "runtime/scheduler/answer.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"

namespace lapidary {
namespace {

double log_sum(std::span<const float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  if (!std::isfinite(most)) return most;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

}  // namespace

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

Answer::Answer(RequestId id, Request request, const ModelConfig& config, int64_t context)
    : id_(id),
      request_(std::move(request)),
      vocab_size_(config.vocab_size),
      d_model_(config.d_model),
      n_prompt_(static_cast<int64_t>(request_.prompt.size())),
      tokens_(std::move(request_.prompt)) {
  const int64_t room = context - n_prompt_;
  capacity_ = n_prompt_ + std::clamp<int64_t>(request_.max_tokens - 1, 0, room);
  if (request_.wants_mean_state) state_sum_.resize(static_cast<size_t>(d_model_));
}

void Answer::begin(std::unique_ptr<Sequence> sequence, const DraftOptions& draft) {
  LAPIDARY_CHECK(sequence->length() == 0 && sequence->capacity() >= capacity_);
  sequence_ = std::move(sequence);
  if (request_.max_tokens == 0) return;
  sampler_.emplace(request_.sampling, vocab_size_);
  sampler_->record_prompt(tokens_);
  if (request_.constraint) matcher_.emplace(request_.constraint);
  constrains_ = request_.constrain_after < 0;
  speculation_.emplace(draft, d_model_);
  if (!request_.logit_bias.empty()) biased_.resize(static_cast<size_t>(vocab_size_));
}

int64_t Answer::common_pages(const Answer& other) const {
  const int64_t most = std::min(n_prompt_ - 1, other.n_prompt_);
  const auto begin = tokens_.begin();
  return (std::mismatch(begin, begin + most, other.tokens_.begin()).first - begin) / kPageTokens;
}

void Answer::took_prefix(int64_t n_tokens) {
  n_fed_ = cached_tokens_ = n_tokens;
  n_kept_pages = n_tokens / kPageTokens;
}

int Answer::n_best() const {
  // The best of all logits need not be among those that a mask lets through.
  if (is_constrained() || wants_bias_or_log() || !sampler_) return 0;
  return sampler_->n_best();
}

BatchItem Answer::next(int64_t n_tokens) {
  BatchItem item{sequence_.get(), {}, 0, request_.adapter.get()};
  n_guessed_ = n_held_ = 0;
  if (speculation_) item.states = speculation_->states();
  if (!in_prompt()) {
    fed_.assign(1, tokens_.back());
    guess(n_tokens - 1);
    item.tokens = fed_;
    n_wanted_ = std::ssize(fed_);
    n_fed_ = std::ssize(tokens_);
    return item;
  }
  const int64_t n = std::min(n_tokens, prompt_left());
  item.tokens = std::span(tokens_).subspan(size_t(n_fed_), size_t(n));
  if (!state_sum_.empty()) item.state_sum = state_sum_.data();
  n_fed_ += n;
  n_wanted_ = in_prompt() || !sampler_ ? 0 : 1;
  item.logits_from = n - n_wanted_;
  return item;
}

// Guesses behind the end of the answer or of the sequence would be for nothing.
void Answer::guess(int64_t most) {
  if (!speculation_) return;
  most = std::min({most, request_.max_tokens - n_given_ - 1, capacity_ - std::ssize(tokens_)});
  speculation_->guess(tokens_, *sequence_, most, is_constrained() ? &*matcher_ : nullptr, fed_);
  n_guessed_ = std::ssize(fed_) - 1;
}

void Answer::choose(const AnswerRows& rows) noexcept {
  try {
    if (in_prompt()) return;
    if (!sampler_) {
      reason_ = FinishReason::kLength;
      return;
    }
    if (n_given_ == 0 && is_constrained() && matcher_->is_finished()) {
      reason_ = FinishReason::kStop;  // only the empty answer follows the constraint
      return;
    }
    for (int64_t row = 0; !reason_; ++row) {
      chosen_.push_back(choose_one(rows, row));
      const int32_t token = chosen_.back().token;
      reason_ = end_after(token);
      if (row == n_guessed_ || token != fed_[size_t(row + 1)]) break;
      ++n_held_;
    }
    if (n_held_ < n_guessed_) sequence_->truncate(sequence_->length() - (n_guessed_ - n_held_));
    speculation_->record(n_guessed_, n_held_);
  } catch (const std::exception& e) {
    fail(e.what());
  }
}

TokenEvent Answer::choose_one(const AnswerRows& rows, int64_t row) {
  TokenEvent event{};
  event.token = pick(rows, row, event);
  sampler_->record(event.token);
  tokens_.push_back(event.token);
  if (is_constrained()) {
    LAPIDARY_CHECK(matcher_->accept(event.token));
  } else if (event.token == request_.constrain_after) {
    constrains_ = true;
  }
  return event;
}

int32_t Answer::pick(const AnswerRows& rows, int64_t row, TokenEvent& event) {
  if (rows.n_best > 0)
    return sampler_->sample(
        rows.best.subspan(size_t(row * rows.n_best), size_t(std::max(1, sampler_->n_best()))));
  std::span<const float> logits =
      rows.logits.subspan(size_t(row * vocab_size_), size_t(vocab_size_));
  const std::span<const float> own = logits;
  if (!biased_.empty()) {
    std::copy(logits.begin(), logits.end(), biased_.begin());
    for (const auto& [token, bias] : request_.logit_bias) biased_[size_t(token)] += bias;
    logits = biased_;
  }
  int32_t token;
  if (is_constrained()) {
    const std::span<const uint64_t> mask = matcher_->mask();
    if (mask.size() != size_t(vocab_size_ + 63) / 64)
      lapidary::fail(ErrorCode::kUsage, "the constraint was compiled for another vocabulary");
    token = sampler_->sample(logits, mask);
  } else {
    token = sampler_->sample(logits);
  }
  if (request_.n_log_probabilities >= 0) {
    const double all = log_sum(own);
    event.log_probability = static_cast<float>(own[size_t(token)] - all);
    event.best.resize(size_t(request_.n_log_probabilities));
    if (!event.best.empty()) keep_best(own, 0, event.best);
    for (Candidate& c : event.best) c.logit = static_cast<float>(c.logit - all);
  }
  return token;
}

std::optional<FinishReason> Answer::end_after(int32_t token) const {
  const auto& stops = request_.stop_ids;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return FinishReason::kStop;
  if (is_constrained() && matcher_->is_finished()) return FinishReason::kStop;
  const int64_t n_new = std::ssize(tokens_) - n_prompt_;
  if (n_new == request_.max_tokens) return FinishReason::kLength;
  if (std::ssize(tokens_) > capacity_) return FinishReason::kContext;  // all but the last are held
  return std::nullopt;
}

bool Answer::deliver() {
  try {
    for (const TokenEvent& event : chosen_) {
      if (n_given_++ == 0)
        seconds_to_first_ = std::chrono::duration<double>(Clock::now() - submitted_).count();
      if (request_.on_token && !request_.on_token(event)) {
        reason_ = FinishReason::kStop;
        break;
      }
    }
  } catch (const std::exception& e) {
    fail(e.what());
  }
  chosen_.clear();
  return reason_.has_value();
}

void Answer::fail(const std::string& error) {
  reason_ = FinishReason::kError;
  error_ = error;
}

void Answer::finish(FinishReason reason) {
  reason_ = reason;
  Finish finish;
  finish.reason = reason;
  if (reason == FinishReason::kError) finish.error = error_;
  finish.prompt_tokens = n_prompt_;
  finish.cached_tokens = cached_tokens_;
  finish.new_tokens = n_given_;
  finish.seconds_to_first = seconds_to_first_;
  if (!in_prompt())
    for (const double sum : state_sum_)
      finish.mean_state.push_back(static_cast<float>(sum / static_cast<double>(n_prompt_)));
  try {
    if (request_.on_finish) request_.on_finish(finish);
  } catch (const std::exception&) {  // nobody is left to tell
  }
}

}  // namespace lapidary
