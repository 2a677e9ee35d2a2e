// A template cut into tokens. Text between tags is already trimmed here: `-` and `+` marks,
// trim_blocks and lstrip_blocks, the way transformers configures Jinja.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary::jinja {

struct Place {
  int line = 1, column = 1;
};

enum class TokenKind {
  kText,
  kPrintBegin,  // {{
  kPrintEnd,    // }}
  kBlockBegin,  // {%
  kBlockEnd,    // %}
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind;
  std::string text;  // of a string: its value
  Place place;
  int64_t integer = 0;
  double real = 0;
};

// Throws kBadData with line and column.
std::vector<Token> tokenize(std::string_view source);

[[noreturn]] void fail_at(Place place, const std::string& message);

}  // namespace lapidary::jinja
