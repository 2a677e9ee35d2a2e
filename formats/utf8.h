// UTF-8: decode, encode, repair. Repair follows the Unicode standard (3.9, "substitution of maximal
// subparts"), as Rust's from_utf8_lossy and therefore `tokenizers` do.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lapidary {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// The code point that starts at text[at], and `at` moved behind it. `text` must be valid UTF-8 and
// `at` the start of a character.
char32_t next_code_point(std::string_view text, size_t& at);
// The code point that ends before `at` > 0.
char32_t previous_code_point(std::string_view text, size_t at);
void append_utf8(char32_t code_point, std::string& out);
size_t count_code_points(std::string_view text);

// Appends `bytes` to `out` with every malformed part replaced by U+FFFD. Unless `is_end`, an
// unfinished character at the end is left alone. Returns how many bytes were used.
size_t append_repaired(std::string_view bytes, bool is_end, std::string& out);
bool is_valid_utf8(std::string_view bytes);

// Unicode's White_Space property.
bool is_white_space(char32_t c);

}  // namespace lapidary
