// The chat page at /, one HTML file that loads nothing from elsewhere.
#pragma once

#include <string_view>

namespace lapidary::server {

std::string_view chat_page();

}  // namespace lapidary::server
