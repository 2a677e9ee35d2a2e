// POST /v1/messages, Anthropic's API: how a request is read and its answer written.
#pragma once

#include <memory>
#include <string>

#include "runtime/server/answer.h"
#include "runtime/server/ask.h"
#include "runtime/server/fields.h"

namespace lapidary::server {

// `needs_limit`: max_tokens must be given, as it must for an answer and not for a count.
Ask read_messages(const Fields& body, bool needs_limit);
std::unique_ptr<AnswerWriter> make_messages_writer(const std::string& model);

}  // namespace lapidary::server
