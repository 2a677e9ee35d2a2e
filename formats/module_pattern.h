// How PEFT names modules in a config: by suffix, or by a regular expression.
//
// The expressions come from foreign files, so matching has a step limit; an expression that exceeds
// it or does not compile is an Error, not a hang.
// Source: peft 0.21, tuners_utils.check_target_module_exists and utils.get_pattern_key.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace lapidary {

class ModulePattern {
 public:
  // "q_proj" matches "q_proj" and every name that ends in ".q_proj"; dots are plain.
  static ModulePattern suffix(std::string_view text);
  // A regular expression that must match the whole name, as in target_modules given as one string.
  static ModulePattern whole(std::string_view regex);
  // A key of rank_pattern or alpha_pattern: an expression for the name or for its last components.
  static ModulePattern key(std::string_view regex);

  // Throws kBadData when matching takes too many steps.
  bool matches(std::string_view module) const;

 private:
  explicit ModulePattern(const std::string& regex, std::string_view shown);
  std::shared_ptr<const void> code_;  // pcre2_code
  std::string shown_;
};

// True when `text` can only be meant as an expression: it holds more than a name can.
bool looks_like_regex(std::string_view text);

}  // namespace lapidary
