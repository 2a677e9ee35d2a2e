// Filters and tests: `value | name(...)` and `value is name(...)`.
#pragma once

#include <string>

#include "runtime/text/jinja_value.h"

namespace lapidary::jinja {

// Throw kBadData for unknown names and for values that Jinja refuses.
Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments);
bool apply_test(const std::string& name, const Value& input, const Arguments& arguments);

using FilterFunction = Value (*)(const Value& input, const Arguments& arguments);
// Filters over lists and dictionaries; null when the name is none of them.
FilterFunction find_collection_filter(const std::string& name);
// Filters of texts and numbers.
FilterFunction find_scalar_filter(const std::string& name);

}  // namespace lapidary::jinja
