// adapter_config.json: what we implement, what is harmless, and what must be refused.
//
// Keys and defaults: peft 0.21.2, tuners/lora/config.py. An option that is off (null, false, empty)
// is accepted whatever its name, so that files of later versions read as long as they do not use
// what those versions added.
#include "formats/peft_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

constexpr int kMaxRank = 1 << 16;

// These say where the adapter came from or how training went on; they do not change what it means.
constexpr std::array kHarmless = {"auto_mapping",
                                  "base_model_name_or_path",
                                  "bias",
                                  "corda_config",
                                  "ensure_weight_tying",
                                  "eva_config",
                                  "exclude_modules",
                                  "inference_mode",
                                  "init_lora_weights",
                                  "layers_pattern",
                                  "layers_to_transform",
                                  "loftq_config",
                                  "lora_alpha",
                                  "lora_dropout",
                                  "lora_ga_config",
                                  "megatron_core",
                                  "peft_type",
                                  "peft_version",
                                  "qalora_group_size",
                                  "r",
                                  "rank_pattern",
                                  "alpha_pattern",
                                  "revision",
                                  "runtime_config",
                                  "target_modules",
                                  "target_parameters",
                                  "task_type",
                                  "use_dora",
                                  "use_rslora"};

// Initializations that also change the base weights: without the changed base the adapter is wrong.
constexpr std::array kChangesBase = {"pissa", "olora", "loftq", "corda", "lora_ga"};

bool is_off(const Json& value) {
  return value.is_null() || value == false ||
         ((value.is_structured() || value.is_string()) && (value.empty() || value == ""));
}

class ConfigReader {
 public:
  ConfigReader(const Json& json, const std::string& where) : json_(json), where_(where) {}

  const Json* find(const char* key) const {  // null: absent or null, which mean the default
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  std::string text(const char* key, const std::string& fallback) const {
    const Json* v = find(key);
    if (v && !v->is_string()) wrong(key, *v, "a string");
    return v ? v->get<std::string>() : fallback;
  }
  bool flag(const char* key) const {
    const Json* v = find(key);
    if (v && !v->is_boolean()) wrong(key, *v, "true or false");
    return v && v->get<bool>();
  }
  int rank(const std::string& key, const Json& v) const {
    if (!v.is_number_integer() || v < 1 || v > kMaxRank)
      wrong(key, v, fmt::format("a whole number from 1 to {}", kMaxRank));
    return v.get<int>();
  }
  double alpha(const std::string& key, const Json& v) const {
    if (!v.is_number() || !std::isfinite(v.get<double>()) || std::abs(v.get<double>()) > 1e9)
      wrong(key, v, "a finite number");
    return v.get<double>();
  }
  template <class T, class Convert>
  std::vector<std::pair<std::string, T>> patterns(const char* key, Convert convert) const {
    std::vector<std::pair<std::string, T>> out;
    const Json* v = find(key);
    if (!v) return out;
    if (!v->is_object()) wrong(key, *v, "an object");
    for (const auto& [pattern, number] : v->items())
      out.emplace_back(pattern, convert(fmt::format("{}.{}", key, excerpt(pattern)), number));
    return out;
  }

  [[noreturn]] void wrong(const std::string& key, const Json& found,
                          const std::string& expected) const {
    fail(ErrorCode::kBadData, "{}: {} is {}, expected {}", where_, key, excerpt(found.dump()),
         expected);
  }

 private:
  const Json& json_;
  const std::string& where_;
};

void refuse_what_changes_the_meaning(const Json& json, const ConfigReader& in,
                                     const std::string& where) {
  if (in.text("peft_type", "") != "LORA")
    in.wrong("peft_type", json.value("peft_type", Json()), "\"LORA\"");
  if (in.text("bias", "none") != "none")
    in.wrong("bias", json["bias"], "\"none\"; train again without biases");
  if (const Json* init = in.find("init_lora_weights"); init && init->is_string())
    for (const char* name : kChangesBase)
      if (init->get<std::string>().starts_with(name))
        in.wrong("init_lora_weights", *init,
                 "one that leaves the base as it is; save the adapter converted (PEFT: "
                 "path_initial_model_for_weight_conversion)");
  for (const auto& [key, value] : json.items()) {
    const bool known = std::find(kHarmless.begin(), kHarmless.end(), key) != kHarmless.end();
    if (!known && !is_off(value))
      fail(ErrorCode::kBadData,
           "{}: option {} is {}, which is not supported; train the adapter without it", where,
           excerpt(key), excerpt(value.dump()));
  }
}

}  // namespace

PeftConfig parse_peft_config(std::string_view text, const std::string& where) {
  guard_json(text, where, 16);
  const Json json = Json::parse(text);
  if (!json.is_object()) fail(ErrorCode::kBadData, "{}: is not a JSON object", where);
  const ConfigReader in(json, where);
  refuse_what_changes_the_meaning(json, in, where);

  PeftConfig c;
  if (const Json* r = in.find("r")) c.rank = in.rank("r", *r);
  c.alpha = 8;  // PEFT's default for a missing key
  if (const Json* alpha = in.find("lora_alpha")) c.alpha = in.alpha("lora_alpha", *alpha);
  c.rslora = in.flag("use_rslora");
  c.dora = in.flag("use_dora");
  c.base_model_name = in.text("base_model_name_or_path", "");
  if (const Json* targets = in.find("target_modules")) {
    if (!targets->is_array() && !targets->is_string())
      in.wrong("target_modules", *targets, "a list of names or one regular expression");
    if (targets->is_string()) c.target_modules.push_back(targets->get<std::string>());
    if (targets->is_array())
      for (const Json& name : *targets) {
        if (!name.is_string()) in.wrong("target_modules", name, "names");
        c.target_modules.push_back(name.get<std::string>());
      }
  }
  if (const Json* parameters = in.find("target_parameters")) {
    const auto known = [](const std::string& name) {
      return is_expert_stack(name, kExpertsGateUp) || is_expert_stack(name, kExpertsDown);
    };
    if (!parameters->is_array()) in.wrong("target_parameters", *parameters, "a list of names");
    for (const Json& name : *parameters) {
      if (!name.is_string() || !known(name.get<std::string>()))
        in.wrong("target_parameters", name, "the stacks of experts, gate_up_proj and down_proj");
      const char* stack =
          is_expert_stack(name.get<std::string>(), kExpertsDown) ? kExpertsDown : kExpertsGateUp;
      if (std::find(c.target_parameters.begin(), c.target_parameters.end(), stack) ==
          c.target_parameters.end())
        c.target_parameters.push_back(stack);
    }
  }
  const auto rank = [&](const std::string& key, const Json& v) { return in.rank(key, v); };
  const auto alpha = [&](const std::string& key, const Json& v) { return in.alpha(key, v); };
  for (auto& [pattern, value] : in.patterns<int>("rank_pattern", rank))
    c.rank_pattern.emplace(pattern, value);
  for (auto& [pattern, value] : in.patterns<double>("alpha_pattern", alpha))
    c.alpha_pattern.emplace(pattern, value);
  return c;
}

std::string peft_config_json(const PeftConfig& c) {
  Json targets = c.target_modules;
  if (c.target_modules.size() == 1 && looks_like_regex(c.target_modules[0]))
    targets = c.target_modules[0];
  const Json json{
      {"alpha_pattern", c.alpha_pattern},
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", c.base_model_name},
      {"bias", "none"},
      {"exclude_modules", nullptr},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights", true},
      {"layers_pattern", nullptr},
      {"layers_to_transform", nullptr},
      {"loftq_config", Json::object()},
      {"lora_alpha", c.alpha},
      {"lora_dropout", 0.0},
      {"megatron_config", nullptr},
      {"megatron_core", "megatron.core"},
      {"modules_to_save", nullptr},
      {"peft_type", "LORA"},
      {"peft_version", "0.21.2"},
      {"r", c.rank},
      {"rank_pattern", c.rank_pattern},
      {"revision", nullptr},
      {"target_modules", targets},
      {"target_parameters", c.target_parameters.empty() ? Json() : Json(c.target_parameters)},
      {"task_type", "CAUSAL_LM"},
      {"use_dora", c.dora},
      {"use_rslora", c.rslora}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

LoraScales::LoraScales(const PeftConfig& config) : config_(config) {
  for (const auto& [key, rank] : config.rank_pattern) ranks_.emplace_back(key, rank);
  for (const auto& [key, alpha] : config.alpha_pattern) alphas_.emplace_back(key, alpha);
}

int LoraScales::rank(std::string_view module) const {
  for (const auto& [pattern, rank] : ranks_)
    if (pattern.matches(module)) return rank;
  return config_.rank;
}

float LoraScales::scale(std::string_view module) const {
  double alpha = config_.alpha;
  for (const auto& [pattern, value] : alphas_)
    if (pattern.matches(module)) {
      alpha = value;
      break;
    }
  const double r = rank(module);
  return static_cast<float>(alpha / (config_.rslora ? std::sqrt(r) : r));
}

}  // namespace lapidary
