// One answer from its tokens: decoded, taken apart by the model's reply format, and ended before a
// stop string.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/server/answer.h"
#include "runtime/server/ask.h"
#include "runtime/server/stop_text.h"
#include "runtime/text/tokenizer.h"

namespace lapidary::server {

struct AnswerSource {
  const Tokenizer& tokenizer;
  const std::vector<int32_t>& stop_ids;
  ReplyFormat format;       // kPlain: text without special tokens
  std::string prompt_tail;  // see ReplyParser::make()
};

class AnswerStream {
 public:
  AnswerStream(const AnswerSource& source, const Ask& ask);

  // A piece and the tokens that it comes with.
  struct Piece {
    ReplyDelta delta;
    std::vector<TokenLog> tokens;
  };
  // Appends what became certain; false: nothing more is wanted.
  bool push(const TokenEvent& event, std::vector<Piece>& out);
  void finish(const Finish& finish, std::vector<Piece>& out);

  const Answer& answer() const { return answer_; }
  Answer take() { return std::move(answer_); }

 private:
  void add_log(const TokenEvent& event);
  void pass(const std::vector<ReplyDelta>& deltas, std::vector<Piece>& out);
  void emit(ReplyDelta delta, std::vector<Piece>& out);
  void emit_rest(std::vector<Piece>& out);

  const Tokenizer& tokenizer_;
  const std::vector<int32_t>& stop_ids_;
  std::unique_ptr<ReplyParser> parser_;
  StreamDecoder decoder_;
  StopText stop_;
  bool wants_logs_, wants_one_call_;
  bool has_call_ = false;  // the one that is wanted, complete
  Answer answer_;
  std::vector<TokenLog> waiting_;  // not yet with a piece
  bool is_thinking_ = false;
};

}  // namespace lapidary::server
