// A text of a few thousand tokens for verdicts when the user names none: prose, instructions, code,
// tables, questions and several languages, written for this project (builtin_text.txt).
#pragma once

#include <string_view>

namespace lapidary {

std::string_view builtin_text();

}  // namespace lapidary
