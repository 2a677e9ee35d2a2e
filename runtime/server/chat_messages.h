// Messages of chat completions, checked and brought into the form that chat templates take:
// contents as text, arguments of earlier calls as objects, "developer" as "system".
#pragma once

#include <string>

#include "runtime/server/fields.h"

namespace lapidary::server {

// JSON array. Throws ApiError naming the message and its field.
std::string chat_messages(const Fields& body);
// The declarations that "tools" has, as templates take them; empty when there are none.
std::string chat_tools(const Fields& body);

}  // namespace lapidary::server
