// Messages of chat completions, checked and brought into the form that chat templates take:
// contents as text, arguments of earlier calls as objects, "developer" as "system".
#pragma once

#include <string>

#include "runtime/server/ask.h"
#include "runtime/server/fields.h"

namespace lapidary::server {

// JSON array. Throws ApiError naming the message and its field.
std::string chat_messages(const Fields& body);
// A message's content as one text: a string, or a list of text parts.
std::string content_text(const Fields& content);
// Arguments of an earlier call, a JSON object or its text, as JSON; text that is none as a string.
std::string call_arguments_json(const Fields& arguments);
// One function's declaration, {"name", "description", "parameters", "strict"}, as templates take
// it.
std::string declaration_json(const Fields& function, const char* parameters);
// The declarations that "tools" has, as templates take them; empty when there are none.
std::string chat_tools(const Fields& body);

// tool_choice and parallel_tool_calls, as chat completions and responses write them. REQUIRES: the
// tools are read.
void read_tool_choice(const Fields& body, Ask& ask);

}  // namespace lapidary::server
