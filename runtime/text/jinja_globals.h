// The functions every template can call.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/text/jinja_value.h"

namespace lapidary::jinja {

// Namespaces live until the end of a rendering: they are the only values that could hold each
// other.
using NamespaceRegistry = std::vector<std::shared_ptr<Namespace>>;

// range, dict, namespace, raise_exception, strftime_now. The result borrows `registry`.
std::unordered_map<std::string, Value> make_globals(NamespaceRegistry& registry);

}  // namespace lapidary::jinja
