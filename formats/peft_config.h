// adapter_config.json in and out; part of formats/peft.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/module_pattern.h"
#include "formats/peft.h"

namespace lapidary {

// Throws kBadData, starting with `where`: syntax, wrong types, options that change the arithmetic
// in a way that we do not implement, and options that we have never heard of, unless they are off.
PeftConfig parse_peft_config(std::string_view json, const std::string& where);
// The keys that PEFT 0.21 and the readers built on it expect; sorted, indented.
std::string peft_config_json(const PeftConfig& config);

// Rank and scale per module, patterns compiled once. `module` is the name in the base as PEFT sees
// it, wrapper prefix included. Among several matching keys the first wins; PEFT writes them sorted.
class LoraScales {
 public:
  explicit LoraScales(const PeftConfig& config);
  int rank(std::string_view module) const;
  float scale(std::string_view module) const;

 private:
  const PeftConfig& config_;
  std::vector<std::pair<ModulePattern, int>> ranks_;
  std::vector<std::pair<ModulePattern, double>> alphas_;
};

}  // namespace lapidary
