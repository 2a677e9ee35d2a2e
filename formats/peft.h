// A PEFT adapter folder: adapter_config.json, adapter_model.safetensors, and our lapidary.json.
//
// Reads LoRA, rsLoRA and DoRA as PEFT writes them; refuses what would silently change the meaning
// (modules_to_save, other peft_type, bias, fan_in_fan_out, ...). Module names are canonical tensor
// names without ".weight": "model.layers.3.self_attn.q_proj". The prefixes "base_model.model.",
// "model.language_model." and "language_model.model." are understood on reading.
// lapidary.json holds the identity of the base the adapter was trained on (content_hash), and of
// the source that base was made from.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_config.h"

namespace lapidary {

struct LoraModule {
  std::string module;  // canonical name, no ".weight"
  int64_t rank = 0, in = 0, out = 0;
  float scale = 1.0f;            // alpha / rank, or alpha / sqrt(rank)
  std::vector<float> a;          // [rank, in]; of a stack of experts [n_experts, rank, in]
  std::vector<float> b;          // [out, rank]; of a stack of experts [n_experts, out, rank]
  std::vector<float> magnitude;  // [out], of a stack [n_experts, out]; DoRA only, else empty
  int64_t n_experts = 0;         // 0: one matrix; else "...experts.gate_up_proj" or ".down_proj"
  int64_t n_matrices() const { return n_experts > 0 ? n_experts : 1; }
};

// The two stacks of experts of a layer, as PEFT's target_parameters name them.
inline constexpr const char* kExpertsGateUp = "experts.gate_up_proj";
inline constexpr const char* kExpertsDown = "experts.down_proj";
// Whether `module` is "...." + stack, or stack itself.
bool is_expert_stack(std::string_view module, std::string_view stack);

struct PeftConfig {
  int rank = 8;
  double alpha = 16;
  bool rslora = false, dora = false;
  std::vector<std::string> target_modules;     // suffixes, or one regular expression
  std::vector<std::string> target_parameters;  // kExpertsGateUp, kExpertsDown, or none
  std::map<std::string, int> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  std::string base_model_name;
  // What stands for "model." in the tensor keys: multimodal classes of transformers say
  // "model.language_model." instead. read_peft() keeps what it found.
  std::string base_prefix = "model.";
};

struct PeftAdapter {
  PeftConfig config;
  std::vector<LoraModule> modules;  // sorted by name
  std::string base_hash;            // content_hash of the exact base; empty when unknown
  std::string base_source_hash;     // of the model that base was quantized from; empty when none
};

// Throws Error: kNotFound, kBadData (shape, rank, NaN, unsupported option).
PeftAdapter read_peft(const std::string& folder);
// Writes the three files into an existing folder (use AtomicFolder around it). Float32 tensors.
void write_peft(const std::string& folder, const PeftAdapter& adapter);
// Throws kBadData with one clear line when a module does not exist in `config` or has another
// shape.
void check_fits(const PeftAdapter& adapter, const ModelConfig& config);

}  // namespace lapidary
