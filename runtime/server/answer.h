// An answer as the APIs' writers see it, and what a writer is.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/scheduler/request.h"
#include "runtime/server/api_error.h"
#include "runtime/text/reply_parser.h"

namespace lapidary::server {

// One token with its log-probability, when these are wanted.
struct TokenLog {
  struct Item {
    std::string text, bytes;  // as decoded, U+FFFD for parts of characters; as they are
    double log_probability;
  };
  Item item;
  std::vector<Item> best;
};

struct Answer {
  Reply reply;
  std::vector<TokenLog> tokens;
  FinishReason reason = FinishReason::kStop;
  std::string stop;  // the stop string that ended it; empty: none
  int64_t new_tokens = 0, reasoning_tokens = 0;
};

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0, reasoning_tokens = 0;
};

// One API's way of telling answers: whole, or as server-sent events. A stream's members append
// events; they are called in the order begin, (delta | end_answer)*, end, or fault in place of end.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  virtual std::string whole(const std::vector<Answer>& answers, const Usage& usage) = 0;

  virtual void begin(int64_t prompt_tokens, std::string& out) = 0;
  // `tokens`: those since the last delta of this answer, when log-probabilities are wanted.
  virtual void delta(int answer, const ReplyDelta& delta, std::span<const TokenLog> tokens,
                     std::string& out) = 0;
  virtual void end_answer(int index, const Answer& answer, std::string& out) = 0;
  virtual void end(const std::vector<Answer>& answers, const Usage& usage, std::string& out) = 0;
  virtual void fault(const Fault& fault, std::string& out) = 0;
};

// "data: {...}\n\n", with "event: NAME\n" in front unless the name is empty.
void append_event(std::string& out, std::string_view name, std::string_view data);

std::string new_id(std::string_view prefix);  // prefix and 24 random hexadecimal digits
int64_t seconds_since_1970();

}  // namespace lapidary::server
