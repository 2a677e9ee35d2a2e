// What llama.cpp calls the parts of a tokenizer: token types, and the split patterns that it knows
// by name only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace lapidary {

// llama.h's llama_token_type.
enum GgufTokenType : int32_t {
  kNormalToken = 1,
  kUnknownToken = 2,
  kControlToken = 3,
  kUserDefinedToken = 4,
  kUnusedToken = 5,
  kByteToken = 6
};

// Special tokens that are stored as user-defined: llama.cpp hides control tokens from its output,
// but chat parsers must see these.
bool is_visible_marker(std::string_view token);

bool is_byte_token(std::string_view token);  // "<0x0A>"

// A pre-tokenizer's name and its regular expression as tokenizer.json spells it, with what else
// belongs to the tokenizers of that name.
struct GgufPattern {
  std::string_view pattern, name;
  bool ignore_merges;  // whole words that are tokens need no merges
  bool nfc;            // texts are composed first
};
std::span<const GgufPattern> gguf_patterns();

}  // namespace lapidary
