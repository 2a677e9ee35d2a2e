// Methods of strings and dictionaries. Those that would change their object do not exist here, as
// in Jinja's immutable sandbox.
#include <fmt/format.h>

#include <unordered_map>

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/text/jinja_operators.h"
#include "runtime/text/jinja_strings.h"

namespace lapidary::jinja {
namespace {

using StringMethod = Value (*)(const std::string&, const Arguments&);
using DictMethod = Value (*)(const Dict&, const Arguments&);

Value string_list(std::vector<std::string> parts) {
  ValueList items;
  for (std::string& part : parts) items.emplace_back(std::move(part));
  return make_list(std::move(items));
}

// The argument of strip() and its kin.
template <std::string_view (*kStrip)(std::string_view, std::optional<std::string_view>)>
Value strip(const std::string& s, const Arguments& a) {
  const auto characters = Bound(a, "strip", {"chars"}).optional_text(0);
  return kStrip(s, characters ? std::optional<std::string_view>(*characters) : std::nullopt);
}

template <std::vector<std::string> (*kSplit)(std::string_view, std::optional<std::string_view>,
                                             int64_t)>
Value split(const std::string& s, const Arguments& a) {
  const Bound bound(a, "split", {"sep", "maxsplit"});
  const auto separator = bound.optional_text(0);
  return string_list(kSplit(s,
                            separator ? std::optional<std::string_view>(*separator) : std::nullopt,
                            bound.integer(1, -1)));
}

// startswith() and endswith() take one string or a tuple of them.
template <class Matches>
Value affix(const Arguments& a, const char* name, const Matches& matches) {
  const Value wanted = Bound(a, name, {"prefix"}).get(0);
  for (const Value& one : wanted.list() ? wanted.list()->items : ValueList{wanted}) {
    if (!one.string())
      fail(ErrorCode::kBadData, "{}: expected a string, found '{}'", name, type_name(one));
    if (matches(*one.string())) return true;
  }
  return false;
}

template <bool kLast>
Value find(const std::string& s, const Arguments& a) {
  const std::string wanted = Bound(a, "find", {"sub"}).text(0, "");
  const size_t at = kLast ? s.rfind(wanted) : s.find(wanted);
  if (at == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(count_code_points(std::string_view(s).substr(0, at)));
}

template <std::string (*kChange)(std::string_view)>
Value change(const std::string& s, const Arguments& a) {
  Bound(a, "this method", {});
  return kChange(s);
}

template <bool (*kIs)(char32_t)>
Value all(const std::string& s, const Arguments&) {
  return all_characters(s, kIs);
}

bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_digit(c); }

// Is there a cased letter, and does changing the case leave all as it is?
template <std::string (*kChange)(std::string_view), std::string (*kOther)(std::string_view)>
Value has_case(const std::string& s, const Arguments&) {
  return kChange(s) == s && kOther(s) != s;
}

enum class Side { kLeft, kRight, kBoth };
template <Side kSide>
Value pad(const std::string& s, const Arguments& a) {
  const Bound bound(a, "ljust", {"width", "fillchar"});
  const int64_t missing = bound.integer(0, 0) - static_cast<int64_t>(count_code_points(s));
  if (missing <= 0) return s;
  const std::string fill = bound.text(1, " ");
  check_size(static_cast<size_t>(missing) * std::max<size_t>(fill.size(), 1) + s.size());
  // Python puts the odd one left only when the width is odd.
  int64_t left = kSide == Side::kLeft ? 0 : missing;
  if (kSide == Side::kBoth) left = missing / 2 + (missing & bound.integer(0, 0) & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += s;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

Value zfill(const std::string& s, const Arguments& a) {
  const int64_t width = Bound(a, "zfill", {"width"}).integer(0, 0);
  const int64_t missing = width - static_cast<int64_t>(count_code_points(s));
  if (missing <= 0) return s;
  check_size(static_cast<size_t>(missing) + s.size());
  const size_t sign = !s.empty() && (s[0] == '+' || s[0] == '-') ? 1 : 0;
  return s.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') + s.substr(sign);
}

Value join(const std::string& s, const Arguments& a) {
  std::string out;
  bool first = true;
  for (const Value& part : elements_of(Bound(a, "join", {"iterable"}).get(0))) {
    if (!part.string())
      fail(ErrorCode::kBadData, "join: expected strings, found '{}'", type_name(part));
    check_size(out.size() + s.size() + part.string()->size());
    if (!first) out += s;
    first = false;
    out += *part.string();
  }
  return out;
}

// "{} {0} {name}" without format specifications.
Value format(const std::string& s, const Arguments& a) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    if ((s[i] == '{' || s[i] == '}') && i + 1 < s.size() && s[i + 1] == s[i]) {
      out += s[i++];
    } else if (s[i] == '{') {
      const size_t close = s.find('}', i);
      if (close == std::string::npos) fail(ErrorCode::kBadData, "format: '{{' without '}}'");
      const std::string field = s.substr(i + 1, close - i - 1);
      if (field.find_first_of(":!.[") != std::string::npos)
        fail(ErrorCode::kBadData, "format: the field '{}' is not supported", field);
      const bool is_index = field.find_first_not_of("0123456789") == std::string::npos;
      const Value* value = nullptr;
      const size_t index = field.empty()                  ? next++
                           : is_index && field.size() < 6 ? std::stoul(field)
                                                          : SIZE_MAX;
      if (index < a.positional.size()) value = &a.positional[index];
      for (const auto& named : a.named)
        if (named.first == field) value = &named.second;
      if (!value) fail(ErrorCode::kBadData, "format: nothing for the field '{}'", field);
      out += to_string(*value);
      i = close;
    } else {
      out += s[i];
    }
    check_size(out.size());
  }
  return out;
}

const std::unordered_map<std::string, StringMethod>& string_methods() {
  static const std::unordered_map<std::string, StringMethod> methods = {
      {"strip", strip<python_strip>},
      {"lstrip", strip<python_lstrip>},
      {"rstrip", strip<python_rstrip>},
      {"split", split<python_split>},
      {"rsplit", split<python_rsplit>},
      {"splitlines",
       [](const std::string& s, const Arguments& a) {
         return string_list(
             python_splitlines(s, Bound(a, "splitlines", {"keepends"}).flag(0, false)));
       }},
      {"startswith",
       [](const std::string& s, const Arguments& a) {
         return affix(a, "startswith", [&](const std::string& x) { return s.starts_with(x); });
       }},
      {"endswith",
       [](const std::string& s, const Arguments& a) {
         return affix(a, "endswith", [&](const std::string& x) { return s.ends_with(x); });
       }},
      {"removeprefix",
       [](const std::string& s, const Arguments& a) {
         const std::string prefix = Bound(a, "removeprefix", {"prefix"}).text(0, "");
         return Value(s.starts_with(prefix) ? s.substr(prefix.size()) : s);
       }},
      {"removesuffix",
       [](const std::string& s, const Arguments& a) {
         const std::string suffix = Bound(a, "removesuffix", {"suffix"}).text(0, "");
         return Value(s.ends_with(suffix) ? s.substr(0, s.size() - suffix.size()) : s);
       }},
      {"replace",
       [](const std::string& s, const Arguments& a) {
         const Bound bound(a, "replace", {"old", "new", "count"});
         return Value(
             python_replace(s, bound.text(0, ""), bound.text(1, ""), bound.integer(2, -1)));
       }},
      {"count",
       [](const std::string& s, const Arguments& a) {
         const std::string wanted = Bound(a, "count", {"sub"}).text(0, "");
         if (wanted.empty()) return Value(static_cast<int64_t>(count_code_points(s)) + 1);
         int64_t count = 0;
         for (size_t at = 0; (at = s.find(wanted, at)) != std::string::npos; at += wanted.size())
           ++count;
         return Value(count);
       }},
      {"find", find<false>},
      {"rfind", find<true>},
      {"upper", change<python_upper>},
      {"lower", change<python_lower>},
      {"title", change<python_title>},
      {"capitalize", change<python_capitalize>},
      {"isdigit", all<is_digit>},
      {"isdecimal", all<is_digit>},
      {"isnumeric", all<is_digit>},
      {"isalpha", all<is_letter>},
      {"isalnum", all<is_letter_or_digit>},
      {"isspace", all<is_python_space>},
      {"isupper", has_case<python_upper, python_lower>},
      {"islower", has_case<python_lower, python_upper>},
      {"ljust", pad<Side::kLeft>},
      {"rjust", pad<Side::kRight>},
      {"center", pad<Side::kBoth>},
      {"zfill", zfill},
      {"join", join},
      {"format", format},
  };
  return methods;
}

Value items_of(const Dict& d, const Arguments& a) {
  Bound(a, "items", {});
  ValueList out;
  for (const auto& [key, value] : d.items()) out.push_back(make_list({key, value}, true));
  return make_list(std::move(out));
}

const std::unordered_map<std::string, DictMethod>& dict_methods() {
  static const std::unordered_map<std::string, DictMethod> methods = {
      {"items", items_of},
      {"keys",
       [](const Dict& d, const Arguments&) {
         ValueList out;
         for (const auto& item : d.items()) out.push_back(item.first);
         return make_list(std::move(out));
       }},
      {"values",
       [](const Dict& d, const Arguments&) {
         ValueList out;
         for (const auto& item : d.items()) out.push_back(item.second);
         return make_list(std::move(out));
       }},
      {"get",
       [](const Dict& d, const Arguments& a) {
         const Bound bound(a, "get", {"key", "default"});
         const Value* found = d.find(bound.get(0));
         return found ? *found : bound.get(1);
       }},
      {"copy", [](const Dict& d, const Arguments&) { return make_dict(d); }},
  };
  return methods;
}

// A callable that keeps `self` alive.
template <class Method, class Self>
Value bind(const std::string& name, Method method, const Value& self,
           const Self& (*get)(const Value&)) {
  return Value(std::make_shared<const Callable>(
      Callable{name, [=](Arguments& a) { return method(get(self), a); }}));
}

Value loop_method(const Value& v, const std::string& name) {
  if (name == "cycle")
    return Value(std::make_shared<const Callable>(
        Callable{name, [v](Arguments& a) {
                   if (a.positional.empty())
                     fail(ErrorCode::kBadData, "cycle: nothing to choose from");
                   return a.positional[v.loop()->index % a.positional.size()];
                 }}));
  return Undefined{name};
}

Value list_method(const Value& v, const std::string& name) {
  const auto make = [&](auto f) {
    return Value(std::make_shared<const Callable>(Callable{name, f}));
  };
  if (name == "count")
    return make([v](Arguments& a) {
      int64_t count = 0;
      const Value wanted = Bound(a, "count", {"value"}).get(0);
      for (const Value& item : v.list()->items) count += equal(item, wanted);
      return Value(count);
    });
  if (name == "index")
    return make([v](Arguments& a) {
      const Value wanted = Bound(a, "index", {"value"}).get(0);
      for (size_t i = 0; i < v.list()->items.size(); ++i)
        if (equal(v.list()->items[i], wanted)) return Value(static_cast<int64_t>(i));
      fail(ErrorCode::kBadData, "index: {} is not in the list", to_repr(wanted));
    });
  return Undefined{name};
}

}  // namespace

Value method_of(const Value& v, const std::string& name) {
  if (v.string()) {
    const auto found = string_methods().find(name);
    if (found == string_methods().end()) return Undefined{name};
    return bind<StringMethod, std::string>(
        name, found->second, v, [](const Value& s) -> const std::string& { return *s.string(); });
  }
  if (v.dict()) {
    const auto found = dict_methods().find(name);
    if (found == dict_methods().end()) return Undefined{name};
    return bind<DictMethod, Dict>(name, found->second, v,
                                  [](const Value& d) -> const Dict& { return *d.dict(); });
  }
  if (v.list()) return list_method(v, name);
  return v.loop() ? loop_method(v, name) : Value(Undefined{name});
}

std::string percent_format(const std::string& text, const ValueList& values) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == '%') {
      out += text[++i];
      continue;
    }
    const size_t flags = text.find_first_not_of("-+ 0", i + 1);
    const size_t conversion = text.find_first_not_of("-+ 0123456789.", i + 1);
    if (conversion == std::string::npos || conversion - i > 12)
      fail(ErrorCode::kBadData, "%: an unfinished conversion in '{}'", text);
    if (next >= values.size()) fail(ErrorCode::kBadData, "%: not enough values for '{}'", text);
    const Value& v = values[next++];
    const std::string options = text.substr(flags, conversion - flags);
    if (options.find_first_of("-+ ") != std::string::npos || options.size() > 6)
      fail(ErrorCode::kBadData, "%: the conversion in '{}' is not supported", text);
    // Python's flags in fmt's words.
    std::string spec = text.substr(i + 1, flags - i - 1);
    const bool left = spec.find('-') != std::string::npos;
    const bool zero = !left && spec.find('0') != std::string::npos;
    const std::string sign = spec.find('+') != std::string::npos   ? "+"
                             : spec.find(' ') != std::string::npos ? " "
                                                                   : "";
    const std::string align = left ? "<" : ">";
    const char kind = text[conversion];
    if (kind == 's' || kind == 'r') {
      const std::string s = kind == 's' ? to_string(v) : to_repr(v);
      out += fmt::format(fmt::runtime("{:" + align + options + "}"), s);
    } else if ((kind == 'd' || kind == 'i' || kind == 'x' || kind == 'X') && v.is_number()) {
      const int64_t n = v.real()      ? static_cast<int64_t>(*v.real())
                        : v.boolean() ? static_cast<int64_t>(*v.boolean())
                                      : *v.integer();
      out += fmt::format(fmt::runtime("{:" + (zero ? "" : align) + sign + (zero ? "0" : "") +
                                      options + (kind == 'x' || kind == 'X' ? kind : 'd') + "}"),
                         n);
    } else if ((kind == 'f' || kind == 'e' || kind == 'g') && v.is_number()) {
      out += fmt::format(fmt::runtime("{:" + (zero ? "" : align) + sign + (zero ? "0" : "") +
                                      options + kind + "}"),
                         as_double(v));
    } else {
      fail(ErrorCode::kBadData, "%: conversion '{}' of a '{}'", kind, type_name(v));
    }
    check_size(out.size());
    i = conversion;
  }
  if (next < values.size()) fail(ErrorCode::kBadData, "%: more values than '{}' takes", text);
  return out;
}

}  // namespace lapidary::jinja
