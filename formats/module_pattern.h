// A key of PEFT's rank_pattern or alpha_pattern: a regular expression for a module's name, or for
// its last components ("q_proj" and "layers.[0-3].mlp.up_proj" fit every prefix).
//
// Keys come from foreign files, so matching has a step limit; an expression that exceeds it or does
// not compile is an Error, not a hang.
// Source: peft 0.21, utils.get_pattern_key.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace lapidary {

class ModulePattern {
 public:
  // Throws kBadData when `key` is no regular expression.
  explicit ModulePattern(std::string_view key);
  // Throws kBadData when matching takes too many steps.
  bool matches(std::string_view module) const;

 private:
  std::shared_ptr<const void> code_;  // pcre2_code
  std::string shown_;                 // the key, for messages
};

// True when `text` can only be meant as an expression: it holds more than a name can.
bool looks_like_regex(std::string_view text);

}  // namespace lapidary
