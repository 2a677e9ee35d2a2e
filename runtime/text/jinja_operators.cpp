// Arithmetic is Python's: // and % round down, / gives a float, integers that leave 64 bits are an
// Error rather than wrong.
#include "runtime/text/jinja_operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "formats/utf8.h"

namespace lapidary::jinja {
namespace {

bool is_integral(const Value& v) { return v.boolean() || v.integer(); }
int64_t as_integer(const Value& v) { return v.integer() ? *v.integer() : *v.boolean(); }

[[noreturn]] void refuse(const std::string& op, const Value& a, const Value& b) {
  for (const Value* v : {&a, &b})
    if (v->undefined()) fail(ErrorCode::kBadData, "'{}' is undefined", v->undefined()->name);
  fail(ErrorCode::kBadData, "'{}' between '{}' and '{}'", op, type_name(a), type_name(b));
}

Value floor_divide(int64_t a, int64_t b, bool want_remainder) {
  if (b == 0) fail(ErrorCode::kBadData, "division by zero");
  if (b == -1) {
    if (a == INT64_MIN) fail(ErrorCode::kBadData, "integer overflow");
    return want_remainder ? Value(int64_t{0}) : Value(-a);
  }
  int64_t quotient = a / b, remainder = a % b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) {
    remainder += b;
    --quotient;
  }
  return want_remainder ? remainder : quotient;
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  int64_t result = 1;
  // More than 63 doublings overflow; 0, 1 and -1 never do.
  if (base == 0 || base == 1) return exponent == 0 ? int64_t{1} : base;
  if (base == -1) return exponent % 2 == 0 ? int64_t{1} : int64_t{-1};
  for (; exponent > 0; --exponent)
    if (__builtin_mul_overflow(result, base, &result))
      fail(ErrorCode::kBadData, "integer overflow");
  return result;
}

Value integer_operation(const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+")
    overflow = __builtin_add_overflow(a, b, &result);
  else if (op == "-")
    overflow = __builtin_sub_overflow(a, b, &result);
  else if (op == "*")
    overflow = __builtin_mul_overflow(a, b, &result);
  else if (op == "//" || op == "%")
    return floor_divide(a, b, op == "%");
  else if (op == "**")
    return integer_power(a, b);
  else if (b == 0)
    fail(ErrorCode::kBadData, "division by zero");
  else
    return static_cast<double>(a) / static_cast<double>(b);
  if (overflow) fail(ErrorCode::kBadData, "integer overflow");
  return result;
}

Value real_operation(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) fail(ErrorCode::kBadData, "division by zero");
  if (op == "/") return a / b;
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return op == "%" ? remainder : std::floor((a - remainder) / b + 0.5);
}

Value repeat(const Value& sequence, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const size_t bytes = extent_of(sequence).bytes;
  if (static_cast<uint64_t>(times) > kMaxValueBytes) check_size(SIZE_MAX);
  check_size(bytes * static_cast<size_t>(times));
  if (sequence.string()) {
    std::string out;
    for (int64_t i = 0; i < times; ++i) out += *sequence.string();
    return out;
  }
  ValueList items;
  for (int64_t i = 0; i < times; ++i)
    items.insert(items.end(), sequence.list()->items.begin(), sequence.list()->items.end());
  return make_list(std::move(items), sequence.list()->is_tuple);
}

// Python's slice.indices(): the positions of start:stop:step in a sequence of `size`.
std::vector<size_t> slice_positions(int64_t size, const Value& start, const Value& stop,
                                    const Value& step) {
  const auto bound = [](const Value& v, int64_t fallback) {
    if (v.is_none()) return fallback;
    if (!is_integral(v))
      fail(ErrorCode::kBadData, "a slice needs integers, found '{}'", type_name(v));
    return as_integer(v);
  };
  const int64_t stride = bound(step, 1);
  if (stride == 0) fail(ErrorCode::kBadData, "a slice with step 0");
  const int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? size : size - 1;
  const auto clamp = [&](int64_t i) { return std::clamp(i < 0 ? i + size : i, low, high); };
  const int64_t first = start.is_none() ? (stride > 0 ? low : high) : clamp(bound(start, 0));
  const int64_t end = stop.is_none() ? (stride > 0 ? high : low) : clamp(bound(stop, 0));
  std::vector<size_t> positions;
  // The distance is at most size, so one step past it cannot overflow.
  for (int64_t i = first; stride > 0 ? i < end : i > end;) {
    positions.push_back(static_cast<size_t>(i));
    if (stride > size || stride < -size) break;
    i += stride;
  }
  return positions;
}

Value loop_attribute(const Value& v, const std::string& name) {
  const LoopState& loop = *v.loop();
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = static_cast<int64_t>(loop.items.size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return length - index;
  if (name == "revindex0") return length - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return loop.depth;
  if (name == "depth0") return loop.depth - 1;
  if (name == "previtem")
    return index > 0 ? loop.items[loop.index - 1] : Value(Undefined{"there is no previous item"});
  if (name == "nextitem")
    return index + 1 < length ? loop.items[loop.index + 1]
                              : Value(Undefined{"there is no next item"});
  return method_of(v, name);
}

std::optional<Value> element(const Value& v, const Value& key) {
  if (v.dict()) {
    const Value* found = v.dict()->find(key);
    return found ? std::optional(*found) : std::nullopt;
  }
  if (!is_integral(key) || (!v.list() && !v.string())) return std::nullopt;
  const int64_t size = length_of(v);
  const int64_t at = as_integer(key) < 0 ? as_integer(key) + size : as_integer(key);
  if (at < 0 || at >= size) return std::nullopt;
  if (v.list()) return v.list()->items[static_cast<size_t>(at)];
  size_t begin = 0;
  for (int64_t i = 0; i < at; ++i) next_code_point(*v.string(), begin);
  size_t end = begin;
  next_code_point(*v.string(), end);
  return Value(v.string()->substr(begin, end - begin));
}

// Attributes of an undefined value are a mistake, not another undefined value.
void check_defined(const Value& v) {
  if (v.undefined()) fail(ErrorCode::kBadData, "'{}' is undefined", v.undefined()->name);
}

std::optional<Value> attribute(const Value& v, const std::string& name) {
  if (v.loop()) return loop_attribute(v, name);
  if (v.name_space()) {
    const auto found = v.name_space()->attributes.find(name);
    return found == v.name_space()->attributes.end() ? std::nullopt : std::optional(found->second);
  }
  Value method = method_of(v, name);
  return method.is_undefined() ? std::nullopt : std::optional(std::move(method));
}

}  // namespace

Value binary_operation(const std::string& op, const Value& a, const Value& b) {
  if (op == "%" && a.string())
    return percent_format(*a.string(),
                          b.list() && b.list()->is_tuple ? b.list()->items : ValueList{b});
  if (is_integral(a) && is_integral(b)) return integer_operation(op, as_integer(a), as_integer(b));
  if (a.is_number() && b.is_number()) return real_operation(op, as_double(a), as_double(b));
  if (op == "+" && a.string() && b.string()) {
    check_size(a.string()->size() + b.string()->size());
    return *a.string() + *b.string();
  }
  if (op == "+" && a.list() && b.list() && a.list()->is_tuple == b.list()->is_tuple) {
    ValueList items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    return make_list(std::move(items), a.list()->is_tuple);
  }
  if (op == "*" && (a.string() || a.list()) && is_integral(b)) return repeat(a, as_integer(b));
  if (op == "*" && (b.string() || b.list()) && is_integral(a)) return repeat(b, as_integer(a));
  refuse(op, a, b);
}

Value negative(const Value& v) {
  if (is_integral(v)) return integer_operation("-", 0, as_integer(v));
  if (v.real()) return -*v.real();
  check_defined(v);
  fail(ErrorCode::kBadData, "'-' before a '{}'", type_name(v));
}

Value item_of(const Value& v, const Value& key) {
  check_defined(v);
  if (auto found = element(v, key)) return *found;
  if (key.string())
    if (auto found = attribute(v, *key.string())) return *found;
  return Undefined{key.string() ? *key.string() : to_string(key)};
}

Value attribute_of(const Value& v, const std::string& name) {
  check_defined(v);
  if (auto found = attribute(v, name)) return *found;
  if (auto found = element(v, Value(name))) return *found;
  return Undefined{name};
}

Value path_of(const Value& v, const Value& path) {
  if (!path.string()) return item_of(v, path);
  Value at = v;
  const std::string& text = *path.string();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool is_index =
        !part.empty() && part.size() < 10 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    at = item_of(at, is_index ? Value(static_cast<int64_t>(std::stoll(part))) : Value(part));
    begin = end + 1;
  }
  return at;
}

Value slice_of(const Value& v, const Value& start, const Value& stop, const Value& step) {
  check_defined(v);
  if (v.list()) {
    ValueList items;
    for (const size_t i :
         slice_positions(static_cast<int64_t>(v.list()->items.size()), start, stop, step))
      items.push_back(v.list()->items[i]);
    return make_list(std::move(items), v.list()->is_tuple);
  }
  if (!v.string()) fail(ErrorCode::kBadData, "a '{}' cannot be sliced", type_name(v));
  const std::string& s = *v.string();
  std::vector<size_t> starts;
  for (size_t at = 0; at < s.size(); next_code_point(s, at)) starts.push_back(at);
  starts.push_back(s.size());
  std::string out;
  for (const size_t i : slice_positions(static_cast<int64_t>(starts.size()) - 1, start, stop, step))
    out.append(s, starts[i], starts[i + 1] - starts[i]);
  return out;
}

Bound::Bound(const Arguments& arguments, std::string_view function,
             std::initializer_list<std::string_view> parameters)
    : function_(function), values_(parameters.size()) {
  if (arguments.positional.size() > parameters.size())
    fail(ErrorCode::kBadData, "{}: {} arguments, it takes at most {}", function,
         arguments.positional.size(), parameters.size());
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(parameters.begin(), parameters.end(), name);
    if (found == parameters.end())
      fail(ErrorCode::kBadData, "{}: no parameter is called '{}'", function, name);
    values_[static_cast<size_t>(found - parameters.begin())] = value;
  }
}

int64_t Bound::integer(size_t i, int64_t fallback) const {
  if (!has(i)) return fallback;
  if (!is_integral(*values_[i]))
    fail(ErrorCode::kBadData, "{}: argument {} must be an integer, found '{}'", function_, i + 1,
         type_name(*values_[i]));
  return as_integer(*values_[i]);
}

std::string Bound::text(size_t i, std::string_view fallback) const {
  if (!has(i)) return std::string(fallback);
  if (!values_[i]->string())
    fail(ErrorCode::kBadData, "{}: argument {} must be a string, found '{}'", function_, i + 1,
         type_name(*values_[i]));
  return *values_[i]->string();
}

std::optional<std::string> Bound::optional_text(size_t i) const {
  if (!has(i) || values_[i]->is_none()) return std::nullopt;
  return text(i, "");
}

}  // namespace lapidary::jinja
