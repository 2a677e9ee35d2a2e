// Values as text: Python's str() and repr(), and JSON both ways.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "formats/utf8.h"
#include "runtime/text/jinja_value.h"

namespace lapidary::jinja {
namespace {

using nlohmann::ordered_json;

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string repr_of_string(const std::string& s) {
  const char quote =
      s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(s, at);
    if (c == static_cast<char32_t>(quote) || c == '\\')
      out += fmt::format("\\{}", static_cast<char>(c));
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (is_printable(c))
      out.append(s, begin, at - begin);
    else if (c < 0x100)
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    else if (c < 0x10000)
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    else
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
  }
  return out + quote;
}

void append_json_string(const std::string& s, bool ensure_ascii, std::string& out) {
  out += '"';
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const auto c = static_cast<uint32_t>(next_code_point(s, at));
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
    if (const size_t i = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos;
        i != std::string_view::npos) {
      out += '\\';
      out += kLetters[i];
    } else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000 && c != 0x7F)) {
      out += fmt::format("\\u{:04x}", c);
    } else if (ensure_ascii && c >= 0x10000) {
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10),
                         0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      out.append(s, begin, at - begin);
    }
  }
  out += '"';
}

std::string json_number(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
  return repr_of_double(d);
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& v, int level) {
    if (v.is_none()) {
      out += "null";
    } else if (v.boolean()) {
      out += *v.boolean() ? "true" : "false";
    } else if (v.integer()) {
      out += std::to_string(*v.integer());
    } else if (v.real()) {
      out += json_number(*v.real());
    } else if (v.string()) {
      append_json_string(*v.string(), style_.ensure_ascii, out);
    } else if (v.list()) {
      write_items('[', ']', v.list()->items, level, [&](const Value& x) { write(x, level + 1); });
    } else if (v.dict()) {
      auto items = v.dict()->items();
      if (style_.sort_keys)
        std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
          return compare(a.first, b.first) < 0;
        });
      write_items('{', '}', items, level, [&](const auto& item) {
        append_json_string(key_of(item.first), style_.ensure_ascii, out);
        out += style_.key_separator;
        write(item.second, level + 1);
      });
    } else {
      fail(ErrorCode::kBadData, "a value of type '{}' cannot be written as JSON", type_name(v));
    }
  }

  std::string out;

 private:
  static std::string key_of(const Value& key) {
    if (key.string()) return *key.string();
    if (key.is_none()) return "null";
    if (key.boolean()) return *key.boolean() ? "true" : "false";
    return key.real() ? json_number(*key.real()) : std::to_string(*key.integer());
  }
  void line(int level) {
    if (style_.indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(style_.indent) * static_cast<size_t>(level), ' ');
  }
  template <class Items, class Write>
  void write_items(char open, char close, const Items& items, int level, const Write& write_item) {
    out += open;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += style_.item_separator;
      first = false;
      line(level + 1);
      write_item(item);
    }
    if (!first) line(level);
    out += close;
  }

  const JsonStyle& style_;
};

Value from_parsed(const ordered_json& j) {
  switch (j.type()) {
    case ordered_json::value_t::null:
      return None{};
    case ordered_json::value_t::boolean:
      return j.get<bool>();
    case ordered_json::value_t::number_integer:
      return j.get<int64_t>();
    case ordered_json::value_t::number_unsigned:
      // Past 2^63 Python keeps the integer; we keep its magnitude.
      if (j.get<uint64_t>() > INT64_MAX) return j.get<double>();
      return j.get<int64_t>();
    case ordered_json::value_t::number_float:
      return j.get<double>();
    case ordered_json::value_t::string:
      return j.get_ref<const std::string&>();
    case ordered_json::value_t::array: {
      ValueList items;
      for (const auto& item : j) items.push_back(from_parsed(item));
      return make_list(std::move(items));
    }
    case ordered_json::value_t::object: {
      Dict dict;
      for (const auto& [key, value] : j.items()) dict.set(key, from_parsed(value));
      return make_dict(std::move(dict));
    }
    default:
      fail(ErrorCode::kBadData, "JSON of an unknown type");
  }
}

std::string join_repr(const List& list) {
  std::string out(1, list.is_tuple ? '(' : '[');
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out += ", ";
    out += to_repr(list.items[i]);
  }
  if (list.is_tuple && list.items.size() == 1) out += ',';
  return out + (list.is_tuple ? ')' : ']');
}

std::string join_repr(const Dict& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict.items()) {
    if (out.size() > 1) out += ", ";
    out += to_repr(key) + ": " + to_repr(value);
  }
  return out + "}";
}

}  // namespace

// The shortest digits that read back to the same number; scientific from 1e16 and below 1e-4.
std::string repr_of_double(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = text.find('e');
  int exponent = 0;
  std::from_chars(buffer + e + 2, end.ptr, exponent);  // behind the sign, always written
  if (buffer[e + 1] == '-') exponent = -exponent;
  if (exponent < -4 || exponent >= 16) return std::string(text);
  std::string out = std::signbit(d) ? "-" : "";
  std::string digits;
  for (const char c : text.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  if (exponent < 0) {
    out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else {
    const auto whole = static_cast<size_t>(exponent) + 1;
    if (digits.size() < whole) digits.append(whole - digits.size(), '0');
    out += digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
  }
  return out;
}

std::string to_string(const Value& v) {
  if (v.string()) return *v.string();
  return to_repr(v);
}

std::string to_repr(const Value& v) {
  if (v.is_undefined()) return "";
  if (v.is_none()) return "None";
  if (v.boolean()) return *v.boolean() ? "True" : "False";
  if (v.integer()) return std::to_string(*v.integer());
  if (v.real()) return repr_of_double(*v.real());
  if (v.string()) return repr_of_string(*v.string());
  if (v.list()) return join_repr(*v.list());
  if (v.dict()) return join_repr(*v.dict());
  // Python prints an address here; nobody can depend on it.
  return std::string("<") + type_name(v) + ">";
}

std::string to_json(const Value& v, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(v, 0);
  return std::move(writer.out);
}

Value from_json(std::string_view text, const std::string& where) {
  guard_json(text, where);
  try {
    return from_parsed(ordered_json::parse(text));
  } catch (const ordered_json::exception& e) {
    fail(ErrorCode::kBadData, "{}: {}", where, e.what());
  }
}

}  // namespace lapidary::jinja
