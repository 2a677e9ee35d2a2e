// Template text to a tree. Knows the grammar of Jinja that chat templates use; inheritance, imports
// and includes are refused by name.
#pragma once

#include <string_view>

#include "runtime/text/jinja_ast.h"

namespace lapidary::jinja {

// Throws kBadData with line and column.
Body parse(std::string_view source);

}  // namespace lapidary::jinja
