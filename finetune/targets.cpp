// Suffixes, wholes and patterns.
#include "finetune/targets.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/error.h"
#include "formats/module_pattern.h"

namespace lapidary {
namespace {

bool ends_with_name(const std::string& module, const std::string& target) {
  return module == target || module.ends_with("." + target);
}

// "experts", "experts.gate_up_proj", "gate_up_proj"; the last is also how other families name one
// dense matrix, which then matches first.
bool names_stack(const std::string& target, const std::string& stack) {
  return target == "experts" || ends_with_name(stack, target);
}

// The last parts of the names there are, each once, for messages.
std::string known_targets(const std::vector<AdaptableMatrix>& matrices) {
  std::vector<std::string> names;
  for (const auto& m : matrices) {
    const std::string last = m.experts ? "experts" : m.module.substr(m.module.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), last) == names.end()) names.push_back(last);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

}  // namespace

void resolve_targets(PeftConfig& config, const std::vector<AdaptableMatrix>& matrices) {
  std::vector<std::string> wanted, modules;
  const bool has_experts = std::any_of(matrices.begin(), matrices.end(),
                                       [](const AdaptableMatrix& m) { return m.experts; });
  for (const std::string& target : config.target_modules) {
    if (target != "all-linear") {
      wanted.push_back(target);
      continue;
    }
    for (const char* name :
         {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
      add_once(wanted, name);
    if (has_experts) add_once(wanted, "experts");
  }
  for (const std::string& target : config.target_parameters) add_once(wanted, target);
  for (const std::string& target : wanted) {
    bool dense = false, stack = false;
    for (const AdaptableMatrix& m : matrices)
      if (!m.experts) dense = dense || ends_with_name(m.module, target);
    for (const char* name : {kExpertsGateUp, kExpertsDown})
      if (!dense && has_experts && names_stack(target, name)) {
        stack = true;
        add_once(config.target_parameters, name);
      }
    if (dense) modules.push_back(target);
    if (!dense && !stack)
      fail(ErrorCode::kUsage, "target \"{}\" matches no matrix of this model; there are: {}",
           target, known_targets(matrices));
  }
  // PEFT wraps gate_up_proj first, whatever the order here.
  std::sort(config.target_parameters.rbegin(), config.target_parameters.rend());
  config.target_modules = modules;
}

bool is_target(const PeftConfig& config, const AdaptableMatrix& matrix) {
  const auto& names = matrix.experts ? config.target_parameters : config.target_modules;
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return ends_with_name(matrix.module, name); });
}

void set_ranks(PeftConfig& config, const std::vector<std::string>& rank_for,
               const std::vector<AdaptableMatrix>& matrices) {
  for (const std::string& text : rank_for) {
    const size_t equals = text.rfind('=');
    int rank = 0;
    const char* begin = text.data() + (equals == std::string::npos ? text.size() : equals + 1);
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), rank);
    if (equals == 0 || error != std::errc() || end != text.data() + text.size() || rank < 1 ||
        rank > 4096)
      fail(ErrorCode::kUsage, "--rank-for \"{}\" should be NAME=RANK, RANK between 1 and 4096",
           text);
    const std::string name = text.substr(0, equals);
    bool found = false;
    for (const std::string& pattern : {name, "(.*\\.)?" + name + "\\..*"}) {
      const ModulePattern matcher(pattern);
      if (std::none_of(matrices.begin(), matrices.end(), [&](const AdaptableMatrix& m) {
            return is_target(config, m) && matcher.matches(m.module);
          }))
        continue;
      found = true;
      config.rank_pattern[pattern] = rank;
      config.alpha_pattern[pattern] = config.rslora
                                          ? config.alpha * std::sqrt(double{1} * rank / config.rank)
                                          : config.alpha * rank / config.rank;
      break;
    }
    if (!found)
      fail(ErrorCode::kUsage, "--rank-for \"{}\" matches nothing that --targets adapts", name);
  }
}

}  // namespace lapidary
