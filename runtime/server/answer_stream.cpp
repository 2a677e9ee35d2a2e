// Stop strings are looked for in the content alone: thoughts and calls are not cut by them.
#include "runtime/server/answer_stream.h"

#include <algorithm>

namespace lapidary::server {
namespace {

TokenLog::Item log_item(const Tokenizer& tokenizer, int32_t token, double log_probability) {
  return {tokenizer.decode({&token, 1}), tokenizer.token_bytes(token), log_probability};
}

}  // namespace

AnswerStream::AnswerStream(const AnswerSource& source, const Ask& ask)
    : tokenizer_(source.tokenizer),
      stop_ids_(source.stop_ids),
      parser_(ReplyParser::make(source.format, source.prompt_tail)),
      decoder_(source.tokenizer, /*skip_special=*/source.format == ReplyFormat::kPlain),
      stop_(ask.stop),
      wants_logs_(ask.n_log_probabilities >= 0),
      wants_one_call_(!ask.parallel_tool_calls) {}

void AnswerStream::add_log(const TokenEvent& event) {
  TokenLog log{log_item(tokenizer_, event.token, event.log_probability), {}};
  for (const Candidate& c : event.best) log.best.push_back(log_item(tokenizer_, c.id, c.logit));
  waiting_.push_back(std::move(log));
}

void AnswerStream::emit(ReplyDelta delta, std::vector<Piece>& out) {
  if (delta.kind == ReplyDelta::Kind::kContent && delta.text.empty()) return;
  answer_.reply.add(delta);
  answer_.tokens.insert(answer_.tokens.end(), waiting_.begin(), waiting_.end());
  out.push_back({std::move(delta), std::move(waiting_)});
  waiting_.clear();
}

// Tokens without text, special ones say, are told of all the same.
void AnswerStream::emit_rest(std::vector<Piece>& out) {
  if (waiting_.empty()) return;
  answer_.tokens.insert(answer_.tokens.end(), waiting_.begin(), waiting_.end());
  out.push_back({{ReplyDelta::Kind::kContent, ""}, std::move(waiting_)});
  waiting_.clear();
}

void AnswerStream::pass(const std::vector<ReplyDelta>& deltas, std::vector<Piece>& out) {
  using Kind = ReplyDelta::Kind;
  for (const ReplyDelta& delta : deltas) {
    if (stop_.is_stopped()) return;
    is_thinking_ = delta.kind == Kind::kReasoning;
    if (delta.kind == Kind::kContent) {
      emit({Kind::kContent, stop_.push(delta.text)}, out);
      continue;
    }
    emit({Kind::kContent, stop_.finish()}, out);  // a call or thought ends what might have stopped
    if (wants_one_call_ && has_call_) return;
    has_call_ = has_call_ || delta.kind == Kind::kCallEnd;
    emit(delta, out);
  }
}

bool AnswerStream::push(const TokenEvent& event, std::vector<Piece>& out) {
  ++answer_.new_tokens;
  if (std::find(stop_ids_.begin(), stop_ids_.end(), event.token) != stop_ids_.end()) return true;
  if (wants_logs_) add_log(event);
  std::vector<ReplyDelta> deltas;
  parser_->push(decoder_.push(event.token), deltas);
  pass(deltas, out);
  if (is_thinking_) ++answer_.reasoning_tokens;
  return !stop_.is_stopped() && !(wants_one_call_ && has_call_);
}

void AnswerStream::finish(const Finish& finish, std::vector<Piece>& out) {
  answer_.reason = finish.reason;
  if (!stop_.is_stopped()) {
    std::vector<ReplyDelta> deltas;
    parser_->push(decoder_.finish(), deltas);
    parser_->finish(deltas);
    pass(deltas, out);
    emit({ReplyDelta::Kind::kContent, stop_.finish()}, out);
    if (!stop_.is_stopped()) emit_rest(out);
  }
  answer_.stop = stop_.matched();
}

}  // namespace lapidary::server
