// Ids back to text, one at a time. The whole-text decoder and the streaming one are the same code.
//
// Text is given out as soon as no later token can change it: an unfinished UTF-8 character waits,
// and so does a run of byte tokens, because one bad byte spoils the whole run in `tokenizers`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer_layout.h"

namespace lapidary {

class TokenDecoder {
 public:
  // Borrows `view`. Throws kBadData for a decoder it does not know.
  explicit TokenDecoder(const TokenizerView& view);

  // What is held back between tokens, and where in the text we are.
  struct State {
    std::string held_bytes;
    uint32_t strips_left = 0;
  };
  State start() const { return {{}, max_strips_}; }
  void push(std::string_view piece, State& state, std::string& out) const;
  void finish(State& state, std::string& out) const;
  // The bytes that a token stands for, wherever it is.
  std::string bytes(std::string_view piece) const;

 private:
  std::string_view replaced(std::string_view piece, std::string& storage) const;
  void emit(std::string_view text, State& state, std::string& out) const;
  void push_byte_level(std::string_view piece, State& state, std::string& out) const;

  struct Replacement {
    std::string_view from, to;
  };
  std::vector<Replacement> replacements_;
  std::string_view stripped_;
  uint32_t max_strips_ = 0;
  bool byte_fallback_ = false, byte_level_ = false;
};

}  // namespace lapidary
