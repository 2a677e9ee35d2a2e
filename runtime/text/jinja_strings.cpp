// Case and classes come from utf8proc; what Python does differently is spelled out here.
#include "runtime/text/jinja_strings.h"

#include <utf8proc.h>

#include <algorithm>

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/text/jinja_value.h"
#include "runtime/text/unicode_forms.h"

namespace lapidary::jinja {
namespace {

bool is_stripped(char32_t c, std::optional<std::string_view> characters) {
  if (!characters) return is_python_space(c);
  for (size_t at = 0; at < characters->size();)
    if (next_code_point(*characters, at) == c) return true;
  return false;
}

size_t bytes_of_last(std::string_view s) {
  size_t n = 1;
  while (n < s.size() && (static_cast<unsigned char>(s[s.size() - n]) & 0xC0) == 0x80) ++n;
  return n;
}

void append_upper(char32_t c, std::string& out) {
  if (c == 0xDF)
    out += "SS";  // the sharp s has no single capital in Python
  else
    append_utf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
}

void append_title(char32_t c, std::string& out) {
  if (c == 0xDF)
    out += "Ss";
  else
    append_utf8(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
}

void append_lower(char32_t c, std::string& out) {
  std::string one;
  append_utf8(c, one);
  out += unicode_lowercase(one);
}

}  // namespace

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

bool is_letter(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
}

bool all_characters(std::string_view s, bool (*is)(char32_t)) {
  for (size_t at = 0; at < s.size();)
    if (!is(next_code_point(s, at))) return false;
  return !s.empty();
}

std::string_view python_lstrip(std::string_view s, std::optional<std::string_view> characters) {
  while (!s.empty()) {
    size_t at = 0;
    if (!is_stripped(next_code_point(s, at), characters)) break;
    s.remove_prefix(at);
  }
  return s;
}

std::string_view python_rstrip(std::string_view s, std::optional<std::string_view> characters) {
  while (!s.empty() && is_stripped(previous_code_point(s, s.size()), characters))
    s.remove_suffix(bytes_of_last(s));
  return s;
}

std::string_view python_strip(std::string_view s, std::optional<std::string_view> characters) {
  return python_rstrip(python_lstrip(s, characters), characters);
}

std::vector<std::string> python_split(std::string_view s, std::optional<std::string_view> separator,
                                      int64_t limit) {
  std::vector<std::string> parts;
  const auto may_cut = [&] { return limit < 0 || static_cast<int64_t>(parts.size()) < limit; };
  if (separator) {
    if (separator->empty()) fail(ErrorCode::kBadData, "split: empty separator");
    for (size_t hit; may_cut() && (hit = s.find(*separator)) != std::string_view::npos;) {
      parts.emplace_back(s.substr(0, hit));
      s.remove_prefix(hit + separator->size());
    }
    parts.emplace_back(s);
    return parts;
  }
  for (s = python_lstrip(s); !s.empty() && may_cut(); s = python_lstrip(s)) {
    size_t end = 0;
    for (size_t next = 0; next < s.size(); end = next)
      if (is_python_space(next_code_point(s, next))) break;
    parts.emplace_back(s.substr(0, end));
    s.remove_prefix(end);
  }
  if (!s.empty()) parts.emplace_back(s);
  return parts;
}

std::vector<std::string> python_rsplit(std::string_view s,
                                       std::optional<std::string_view> separator, int64_t limit) {
  if (limit < 0) return python_split(s, separator, -1);
  std::vector<std::string> parts;
  const auto may_cut = [&] { return static_cast<int64_t>(parts.size()) < limit; };
  if (separator) {
    if (separator->empty()) fail(ErrorCode::kBadData, "rsplit: empty separator");
    for (size_t hit; may_cut() && (hit = s.rfind(*separator)) != std::string_view::npos;) {
      parts.emplace_back(s.substr(hit + separator->size()));
      s = s.substr(0, hit);
    }
    parts.emplace_back(s);
  } else {
    for (s = python_rstrip(s); !s.empty() && may_cut(); s = python_rstrip(s)) {
      size_t begin = s.size();
      while (begin > 0 && !is_python_space(previous_code_point(s, begin)))
        begin -= bytes_of_last(s.substr(0, begin));
      parts.emplace_back(s.substr(begin));
      s = s.substr(0, begin);
    }
    if (!s.empty()) parts.emplace_back(s);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> python_splitlines(std::string_view s, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const size_t end = at;
    const char32_t c = next_code_point(s, at);
    const bool breaks = (c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < s.size() && s[at] == '\n') ++at;
    lines.emplace_back(s.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < s.size()) lines.emplace_back(s.substr(begin));
  return lines;
}

std::string python_replace(std::string_view s, std::string_view from, std::string_view to,
                           int64_t limit) {
  std::string out;
  int64_t done = 0;
  size_t at = 0;
  const auto put = [&](std::string_view part) {
    check_size(out.size() + part.size());
    out += part;
  };
  while (limit < 0 || done < limit) {
    const size_t hit = s.find(from, at);
    if (hit == std::string_view::npos) break;
    put(s.substr(at, hit - at));
    put(to);
    ++done;
    at = hit + from.size();
    if (from.empty()) {
      // An empty pattern stands between all characters.
      if (at == s.size()) return out;
      size_t next = at;
      next_code_point(s, next);
      put(s.substr(at, next - at));
      at = next;
    }
  }
  put(s.substr(at));
  return out;
}

std::string python_upper(std::string_view s) {
  std::string out;
  for (size_t at = 0; at < s.size();) append_upper(next_code_point(s, at), out);
  return out;
}

std::string python_lower(std::string_view s) { return unicode_lowercase(s); }

std::string python_capitalize(std::string_view s) {
  std::string out;
  if (s.empty()) return out;
  size_t at = 0;
  append_title(next_code_point(s, at), out);
  return out + unicode_lowercase(s.substr(at));
}

std::string python_title(std::string_view s) {
  std::string out;
  bool inside = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_code_point(s, at);
    inside ? append_lower(c, out) : append_title(c, out);
    inside = is_letter(c);
  }
  return out;
}

}  // namespace lapidary::jinja
