// Filters of texts and numbers, and the look-up.
#include "runtime/text/jinja_filters.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <unordered_map>

#include "formats/error.h"
#include "runtime/text/jinja_operators.h"
#include "runtime/text/jinja_strings.h"

namespace lapidary::jinja {
namespace {

// Python's int(text, base); nothing when it is none or leaves 64 bits.
std::optional<int64_t> parse_integer(std::string_view text, int base) {
  text = python_strip(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size())
    return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  text = python_strip(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size())
    return std::nullopt;
  return value;
}

Value truncated(double d) {
  // 2^63: what no longer fits an integer.
  if (!(std::abs(d) < 9223372036854775808.0)) fail(ErrorCode::kBadData, "int: {} is too large", d);
  return static_cast<int64_t>(d);
}

Value filter_int(const Value& v, const Arguments& a) {
  const Bound bound(a, "int", {"default", "base"});
  if (v.integer()) return v;
  if (v.boolean()) return static_cast<int64_t>(*v.boolean());
  if (v.real()) return std::isfinite(*v.real()) ? truncated(*v.real()) : bound.get(0, int64_t{0});
  if (v.string()) {
    const int64_t base = bound.integer(1, 10);
    if (base < 2 || base > 36) fail(ErrorCode::kBadData, "int: base {}", base);
    if (const auto n = parse_integer(*v.string(), static_cast<int>(base))) return *n;
    if (const auto d = parse_real(*v.string()); d && std::isfinite(*d)) return truncated(*d);
  }
  return bound.get(0, int64_t{0});
}

Value filter_float(const Value& v, const Arguments& a) {
  const Bound bound(a, "float", {"default"});
  if (v.is_number()) return as_double(v);
  if (v.string())
    if (const auto d = parse_real(*v.string())) return *d;
  return bound.get(0, 0.0);
}

Value filter_round(const Value& v, const Arguments& a) {
  const Bound bound(a, "round", {"precision", "method"});
  const int64_t precision = bound.integer(0, 0);
  const std::string method = bound.text(1, "common");
  if (!v.is_number()) fail(ErrorCode::kBadData, "round: a '{}'", type_name(v));
  if (precision < 0 || precision > 100)
    fail(ErrorCode::kBadData, "round: precision {} is not supported", precision);
  if (method == "common") {
    if (!v.real()) return v;
    // Decimal digits of the exact value, halves to even, as Python does.
    return std::stod(fmt::format("{:.{}f}", *v.real(), precision));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(as_double(v) * scale) / scale;
  if (method == "floor") return std::floor(as_double(v) * scale) / scale;
  fail(ErrorCode::kBadData, "round: method '{}'", method);
}

Value filter_abs(const Value& v, const Arguments&) {
  if (!v.is_number()) fail(ErrorCode::kBadData, "abs: a '{}'", type_name(v));
  return as_double(v) < 0 ? negative(v) : v;
}

Value filter_escape(const Value& v, const Arguments&) {
  std::string out;
  for (const char c : to_string(v)) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '\'')
      out += "&#39;";
    else if (c == '"')
      out += "&#34;";
    else
      out += c;
  }
  return out;
}

Value filter_indent(const Value& v, const Arguments& a) {
  const Bound bound(a, "indent", {"width", "first", "blank"});
  const Value width = bound.get(0, int64_t{4});
  if (!width.string()) check_size(static_cast<size_t>(std::max<int64_t>(bound.integer(0, 4), 0)));
  const std::string margin =
      width.string()
          ? *width.string()
          : std::string(static_cast<size_t>(std::max<int64_t>(bound.integer(0, 4), 0)), ' ');
  const std::string text = to_string(v);
  std::string out = bound.flag(1, false) ? margin : "";
  bool first = true;
  // An added newline makes a text that ends in one keep its last, empty line.
  for (const std::string& line : python_splitlines(text + "\n", false)) {
    if (!first) out += '\n';
    if (!first && (!line.empty() || bound.flag(2, false))) out += margin;
    first = false;
    out += line;
    check_size(out.size());
  }
  return out;
}

// Words begin after white space, a hyphen or an opening bracket.
Value filter_title(const Value& v, const Arguments&) {
  std::string out, word;
  const auto flush = [&] {
    size_t end = 1;
    while (end < word.size() && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80) ++end;
    if (!word.empty()) out += python_upper(word.substr(0, end)) + python_lower(word.substr(end));
    word.clear();
  };
  for (const Value& character : elements_of(Value(to_string(v)))) {
    const std::string& c = *character.string();
    if (python_strip(c).empty() || std::string_view("-({[<").find(c) != std::string_view::npos) {
      flush();
      out += c;
    } else {
      word += c;
    }
  }
  flush();
  return out;
}

Value filter_tojson(const Value& v, const Arguments& a) {
  const Bound bound(a, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (!bound.get(1).is_none()) {
    style.indent = static_cast<int>(std::clamp<int64_t>(bound.integer(1, 0), 0, 64));
    style.item_separator = ",";
  }
  if (const Value separators = bound.get(2); separators.list()) {
    const auto& items = separators.list()->items;
    if (items.size() != 2 || !items[0].string() || !items[1].string())
      fail(ErrorCode::kBadData, "tojson: separators are two strings");
    style.item_separator = *items[0].string();
    style.key_separator = *items[1].string();
    check_size(extent_of(v).bytes * (items[0].string()->size() + items[1].string()->size() + 1));
  }
  return to_json(v, style);
}

Value filter_trim(const Value& v, const Arguments& a) {
  const auto characters = Bound(a, "trim", {"chars"}).optional_text(0);
  return python_strip(to_string(v),
                      characters ? std::optional<std::string_view>(*characters) : std::nullopt);
}

}  // namespace

FilterFunction find_scalar_filter(const std::string& name) {
  static const std::unordered_map<std::string, FilterFunction> filters = {
      {"abs", filter_abs},
      {"attr",
       [](const Value& v, const Arguments& a) {
         return attribute_of(v, Bound(a, "attr", {"name"}).text(0, ""));
       }},
      {"capitalize",
       [](const Value& v, const Arguments&) { return Value(python_capitalize(to_string(v))); }},
      {"e", filter_escape},
      {"escape", filter_escape},
      {"float", filter_float},
      {"format",
       [](const Value& v, const Arguments& a) {
         return Value(percent_format(to_string(v), a.positional));
       }},
      {"indent", filter_indent},
      {"int", filter_int},
      {"lower", [](const Value& v, const Arguments&) { return Value(python_lower(to_string(v))); }},
      {"replace",
       [](const Value& v, const Arguments& a) {
         const Bound bound(a, "replace", {"old", "new", "count"});
         return Value(python_replace(to_string(v), to_string(bound.get(0, "")),
                                     to_string(bound.get(1, "")),
                                     bound.get(2).is_none() ? -1 : bound.integer(2, -1)));
       }},
      {"round", filter_round},
      {"safe", [](const Value& v, const Arguments&) { return Value(to_string(v)); }},
      {"string", [](const Value& v, const Arguments&) { return Value(to_string(v)); }},
      {"title", filter_title},
      {"tojson", filter_tojson},
      {"trim", filter_trim},
      {"upper", [](const Value& v, const Arguments&) { return Value(python_upper(to_string(v))); }},
  };
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments) {
  FilterFunction function = find_scalar_filter(name);
  if (!function) function = find_collection_filter(name);
  if (!function) fail(ErrorCode::kBadData, "the filter '{}' is unknown or not supported", name);
  return function(input, arguments);
}

}  // namespace lapidary::jinja
