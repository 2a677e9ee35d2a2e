// Runs a parsed template.
#pragma once

#include <string>

#include "runtime/text/jinja_ast.h"

namespace lapidary::jinja {

// Renders `body` with the members of `context`, a dictionary, as variables. Steps, output,
// recursion and the size of every value are bounded. Throws kBadData with line and column.
std::string render(const Body& body, const Value& context);

}  // namespace lapidary::jinja
