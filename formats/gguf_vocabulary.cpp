// The tables behind gguf_vocabulary.h. Source: llama.cpp's src/llama-vocab.cpp.
#include "formats/gguf_vocabulary.h"

#include <algorithm>
#include <array>

namespace lapidary {

bool is_visible_marker(std::string_view token) {
  static constexpr std::array<std::string_view, 7> kVisible{
      "<|channel>",       "<channel|>",       "<|tool_call>", "<tool_call|>",
      "<|tool_response>", "<tool_response|>", "<|\"|>"};
  return std::find(kVisible.begin(), kVisible.end(), token) != kVisible.end();
}

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with(">") &&
         token.find_first_not_of("0123456789ABCDEF", 3) == 5;
}

std::span<const GgufPattern> gguf_patterns() {
  static constexpr GgufPattern kPatterns[] = {
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       "llama-bpe", true, false},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       "qwen2", false, true},
  };
  return kPatterns;
}

}  // namespace lapidary
