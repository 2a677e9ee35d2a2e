// POST /v1/chat/completions as values: what a request asks, and how its answer is written.
#pragma once

#include <memory>
#include <string>

#include "runtime/server/answer.h"
#include "runtime/server/ask.h"
#include "runtime/server/fields.h"

namespace lapidary::server {

struct ChatAsk {
  Ask ask;
  bool include_usage = false;  // a last chunk of a stream with the usage
};
ChatAsk read_chat(const Fields& body);
// {"prompt_tokens", "completion_tokens", "total_tokens", ...}
std::string openai_usage(const Usage& usage);
std::unique_ptr<AnswerWriter> make_chat_writer(const ChatAsk& chat, const std::string& model);

}  // namespace lapidary::server
