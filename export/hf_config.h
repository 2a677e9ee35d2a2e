// A model's description as the config.json that Hugging Face's transformers reads.
//
// The inverse of convert/'s reading, family by family: what is written here converts back to the
// same ModelConfig. Sources: transformers' Gemma4TextConfig, Gemma3TextConfig, LlamaConfig,
// Qwen3Config.
#pragma once

#include <string>

#include "formats/model_config.h"

namespace lapidary {

// The two spellings in use: transformers 5 keeps RoPE in `rope_parameters` and lists the layers
// that differ in `per_layer_config`; before, there were `rope_theta`, `rope_scaling` and
// `global_head_dim`. Transformers 5 reads both.
enum class HfDialect : uint8_t { kTransformers5, kFlat };

// Throws kBadData when the description has something that the family's config cannot say.
std::string hf_config_json(const ModelConfig& config, HfDialect dialect);

}  // namespace lapidary
