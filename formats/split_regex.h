// The regular expressions of tokenizer.json, matched as `tokenizers` matches them.
//
// `tokenizers` uses Oniguruma with Ruby's syntax; we use PCRE2. The two read the released patterns
// alike except for a few constructs, which are translated (\s, \w, \h, \uHHHH, \p{Script}) or
// refused by name ({n}+, nested character classes, options that mean something else).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

struct TextRange {
  size_t begin, end;  // bytes
};

class SplitRegex {
 public:
  // Throws kBadData: syntax, or a construct that is not supported.
  explicit SplitRegex(std::string_view pattern);
  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;
  ~SplitRegex();

  // All matches from left to right, not overlapping. `text` must be valid UTF-8. An empty match
  // directly after a match is skipped. Thread-safe. Throws kBadData when a limit is reached.
  std::vector<TextRange> find_all(std::string_view text) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// `pattern` in PCRE2's syntax. Throws kBadData.
std::string translate_to_pcre2(std::string_view pattern);

}  // namespace lapidary
