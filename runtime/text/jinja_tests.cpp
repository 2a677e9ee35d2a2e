// Tests: what stands behind `is`.
#include <unordered_map>

#include "formats/error.h"
#include "runtime/text/jinja_filters.h"
#include "runtime/text/jinja_operators.h"
#include "runtime/text/jinja_strings.h"

namespace lapidary::jinja {
namespace {

using TestFunction = bool (*)(const Value&, const Arguments&);

Value argument(const Arguments& a) {
  if (a.positional.size() != 1 || !a.named.empty())
    fail(ErrorCode::kBadData, "this test takes one argument");
  return a.positional[0];
}

int64_t remainder(const Value& v, const Value& divisor) {
  const Value r = binary_operation("%", v, divisor);
  if (!r.integer()) fail(ErrorCode::kBadData, "a test of divisibility of a '{}'", type_name(v));
  return *r.integer();
}

bool is_sequence(const Value& v) { return v.is_undefined() || v.string() || v.list() || v.dict(); }

const std::unordered_map<std::string, TestFunction>& tests() {
  static const TestFunction eq = [](const Value& v, const Arguments& a) {
    return equal(v, argument(a));
  };
  static const TestFunction ne = [](const Value& v, const Arguments& a) {
    return !equal(v, argument(a));
  };
  static const TestFunction lt = [](const Value& v, const Arguments& a) {
    return compare(v, argument(a)) < 0;
  };
  static const TestFunction le = [](const Value& v, const Arguments& a) {
    return compare(v, argument(a)) <= 0;
  };
  static const TestFunction gt = [](const Value& v, const Arguments& a) {
    return compare(v, argument(a)) > 0;
  };
  static const TestFunction ge = [](const Value& v, const Arguments& a) {
    return compare(v, argument(a)) >= 0;
  };
  static const std::unordered_map<std::string, TestFunction> all = {
      {"==", eq},
      {"eq", eq},
      {"equalto", eq},
      {"!=", ne},
      {"ne", ne},
      {"<", lt},
      {"lt", lt},
      {"lessthan", lt},
      {"<=", le},
      {"le", le},
      {">", gt},
      {"gt", gt},
      {"greaterthan", gt},
      {">=", ge},
      {"ge", ge},
      {"sameas", eq},
      {"boolean", [](const Value& v, const Arguments&) { return v.boolean() != nullptr; }},
      {"callable", [](const Value& v, const Arguments&) { return v.callable() != nullptr; }},
      {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
      {"divisibleby",
       [](const Value& v, const Arguments& a) { return remainder(v, argument(a)) == 0; }},
      {"even", [](const Value& v, const Arguments&) { return remainder(v, int64_t{2}) == 0; }},
      {"odd", [](const Value& v, const Arguments&) { return remainder(v, int64_t{2}) == 1; }},
      {"false", [](const Value& v, const Arguments&) { return v.boolean() && !*v.boolean(); }},
      {"true", [](const Value& v, const Arguments&) { return v.boolean() && *v.boolean(); }},
      {"float", [](const Value& v, const Arguments&) { return v.real() != nullptr; }},
      {"integer", [](const Value& v, const Arguments&) { return v.integer() != nullptr; }},
      {"number", [](const Value& v, const Arguments&) { return v.is_number(); }},
      {"none", [](const Value& v, const Arguments&) { return v.is_none(); }},
      {"string", [](const Value& v, const Arguments&) { return v.string() != nullptr; }},
      {"mapping", [](const Value& v, const Arguments&) { return v.dict() != nullptr; }},
      {"sequence", [](const Value& v, const Arguments&) { return is_sequence(v); }},
      {"iterable", [](const Value& v, const Arguments&) { return is_sequence(v); }},
      {"in", [](const Value& v, const Arguments& a) { return contains(argument(a), v); }},
      {"lower",
       [](const Value& v, const Arguments&) {
         const std::string s = to_string(v);
         return python_lower(s) == s && python_upper(s) != s;
       }},
      {"upper",
       [](const Value& v, const Arguments&) {
         const std::string s = to_string(v);
         return python_upper(s) == s && python_lower(s) != s;
       }},
      {"filter",
       [](const Value& v, const Arguments&) {
         return find_scalar_filter(to_string(v)) || find_collection_filter(to_string(v));
       }},
      {"test", [](const Value& v, const Arguments&) { return tests().contains(to_string(v)); }},
  };
  return all;
}

}  // namespace

bool apply_test(const std::string& name, const Value& input, const Arguments& arguments) {
  const auto found = tests().find(name);
  if (found == tests().end())
    fail(ErrorCode::kBadData, "the test '{}' is unknown or not supported", name);
  return found->second(input, arguments);
}

}  // namespace lapidary::jinja
