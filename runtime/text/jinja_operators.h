// Operators and access: + - * / // % **, subscripts, slices, attributes and methods.
// All throw kBadData for types that Python refuses.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/text/jinja_value.h"

namespace lapidary::jinja {

// `op` as written in the template.
Value binary_operation(const std::string& op, const Value& a, const Value& b);
Value negative(const Value& v);

// v[key]: an element, else an attribute of that name. Undefined when absent.
Value item_of(const Value& v, const Value& key);
// v.name: a method or attribute, else an element of that name. Undefined when absent.
Value attribute_of(const Value& v, const std::string& name);
// "a.b.0" as filters take it: item_of() for each part.
Value path_of(const Value& v, const Value& path);
// v[start:stop:step], each None or an integer.
Value slice_of(const Value& v, const Value& start, const Value& stop, const Value& step);

// The method `name` bound to `v`; undefined when there is none. Only methods without side effects.
Value method_of(const Value& v, const std::string& name);

// Python's "..." % values, with the conversions s r d i f x and their flags.
std::string percent_format(const std::string& format, const ValueList& values);

// Arguments of a call by the names of its parameters.
class Bound {
 public:
  // Throws kBadData when there are too many or one has another name.
  Bound(const Arguments& arguments, std::string_view function,
        std::initializer_list<std::string_view> parameters);
  bool has(size_t i) const { return values_[i].has_value(); }
  Value get(size_t i, Value fallback = None{}) const { return has(i) ? *values_[i] : fallback; }
  bool flag(size_t i, bool fallback) const { return has(i) ? is_true(*values_[i]) : fallback; }
  int64_t integer(size_t i, int64_t fallback) const;            // throws kBadData unless an integer
  std::string text(size_t i, std::string_view fallback) const;  // throws unless a string
  std::optional<std::string> optional_text(size_t i) const;     // None counts as absent

 private:
  std::string_view function_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace lapidary::jinja
