// Python's string methods, as far as templates use them. Positions and widths count code points.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary::jinja {

// Without `characters`: white space.
std::string_view python_lstrip(std::string_view s, std::optional<std::string_view> characters = {});
std::string_view python_rstrip(std::string_view s, std::optional<std::string_view> characters = {});
std::string_view python_strip(std::string_view s, std::optional<std::string_view> characters = {});

// At most `limit` cuts (negative: all). Without separator: at white space, no empty parts.
std::vector<std::string> python_split(std::string_view s, std::optional<std::string_view> separator,
                                      int64_t limit);
std::vector<std::string> python_rsplit(std::string_view s,
                                       std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string> python_splitlines(std::string_view s, bool keep_ends);
// At most `limit` times (negative: all). Throws kBadData when the result is too long.
std::string python_replace(std::string_view s, std::string_view from, std::string_view to,
                           int64_t limit);
std::string python_upper(std::string_view s);
std::string python_lower(std::string_view s);
std::string python_capitalize(std::string_view s);
std::string python_title(std::string_view s);

bool is_python_space(char32_t c);
// Do all characters, at least one, satisfy it? For isdigit and its relatives.
bool all_characters(std::string_view s, bool (*is)(char32_t));
bool is_letter(char32_t c);
bool is_digit(char32_t c);  // decimal digits

}  // namespace lapidary::jinja
