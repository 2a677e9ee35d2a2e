// How the network of a schema writes what JSON and the notation of Gemma's calls write differently.
//
// There strings stand between special tokens and have no escapes, so what spells that token out
// letter by letter may not occur in them; keys are bare where that can be read back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/grammar/regex.h"

namespace lapidary::grammar {

struct Notation {
  uint8_t quote = 0;       // the byte that stands for the special token around strings; 0: JSON
  std::string quote_text;  // that token's text

  bool is_gemma() const { return quote != 0; }
  std::string quotation_mark() const {
    return std::string(1, is_gemma() ? static_cast<char>(quote) : '"');
  }
  std::string name() const { return is_gemma() ? "gemma " : ""; }
};

// A member's name as it is written. Throws kUsage for one that has no spelling.
std::string key_text(const std::string& name, const Notation& notation);
// A JSON value as it is written; none when a string in it has no spelling.
std::optional<std::string> literal_text(const std::string& json, const Notation& notation);
// What a bare key does not contain, here: signs, quotation marks, white space.
const CodeSet& barred_in_bare_keys();
// The texts of `automaton` without those that contain `text`, ASCII.
CodeAutomaton without_text(const CodeAutomaton& automaton, std::string_view text);
// ASCII letters only, as sorting by name needs it.
std::string lower_case(std::string text);

}  // namespace lapidary::grammar
