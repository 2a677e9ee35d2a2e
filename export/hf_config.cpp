// One function per family below the keys that all of them share.
#include "export/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

// The shortest decimal that reads back as this float, so that 1e-6f is written as 1e-06.
double shortest(float value) { return std::strtod(fmt::format("{}", value).c_str(), nullptr); }

[[noreturn]] void inexpressible(const ModelConfig& config, std::string_view what) {
  fail(ErrorCode::kBadData, "a {} config.json cannot say that {}", config.family, what);
}

const LayerConfig* first_layer(const ModelConfig& config, AttentionKind kind) {
  const auto found = std::find_if(config.layers.begin(), config.layers.end(),
                                  [&](const LayerConfig& l) { return l.attention == kind; });
  return found == config.layers.end() ? nullptr : &*found;
}

Json rope_json(const RopeConfig& rope) {
  Json json;
  switch (rope.kind) {
    case RopeKind::kDefault:
      json["rope_type"] = rope.factor == 1.0 ? "default" : "linear";
      if (rope.factor != 1.0) json["factor"] = rope.factor;
      break;
    case RopeKind::kProportional:
      json["rope_type"] = "proportional";
      json["partial_rotary_factor"] = rope.rotated_fraction;
      if (rope.factor != 1.0) json["factor"] = rope.factor;
      break;
    case RopeKind::kLlama3:
      json["rope_type"] = "llama3";
      json["factor"] = rope.factor;
      json["low_freq_factor"] = rope.low_freq_factor;
      json["high_freq_factor"] = rope.high_freq_factor;
      json["original_max_position_embeddings"] = rope.original_context;
      break;
  }
  json["rope_theta"] = rope.theta;
  return json;
}

// The older spelling beside rope_theta: null, or the dictionary without its theta.
Json rope_scaling(const RopeConfig& rope) {
  if (rope.kind == RopeKind::kDefault && rope.factor == 1.0) return nullptr;
  Json json = rope_json(rope);
  json.erase("rope_theta");
  return json;
}

Json layer_types(const ModelConfig& config) {
  Json types = Json::array();
  for (const LayerConfig& layer : config.layers)
    types.push_back(layer.attention == AttentionKind::kGlobal ? "full_attention"
                                                              : "sliding_attention");
  return types;
}

// Of one-kind families, and what differs from it is written afterwards in Gemma 4.
Json common_json(const ModelConfig& config, std::string_view model_type,
                 std::string_view architecture, const LayerConfig& layer) {
  const auto id = [](int32_t value) { return value < 0 ? Json(nullptr) : Json(value); };
  Json json;
  json["architectures"] = Json::array({architecture});
  json["model_type"] = model_type;
  json["dtype"] = "bfloat16";
  json["hidden_size"] = config.d_model;
  json["intermediate_size"] = layer.d_ff;
  json["num_hidden_layers"] = config.n_layers();
  json["num_attention_heads"] = layer.n_heads;
  json["num_key_value_heads"] = layer.n_kv_heads;
  json["head_dim"] = layer.head_dim;
  json["max_position_embeddings"] = config.max_context;
  json["vocab_size"] = config.vocab_size;
  json["rms_norm_eps"] = shortest(config.norm_eps);
  json["tie_word_embeddings"] = config.tied_head;
  json["attention_bias"] = false;
  json["bos_token_id"] = id(config.bos_id);
  json["pad_token_id"] = id(config.pad_id);
  if (config.eos_ids.size() == 1)
    json["eos_token_id"] = config.eos_ids.front();
  else
    json["eos_token_id"] = config.eos_ids.empty() ? Json(nullptr) : Json(config.eos_ids);
  return json;
}

void add_softcap(const ModelConfig& config, Json& json) {
  json["final_logit_softcapping"] =
      config.logit_softcap > 0 ? Json(shortest(config.logit_softcap)) : Json(nullptr);
}

Json two_ropes(const RopeConfig& global, const RopeConfig& sliding) {
  return {{"full_attention", rope_json(global)}, {"sliding_attention", rope_json(sliding)}};
}

void add_experts(const ModelConfig& config, Json& json) {
  const LayerConfig& layer = config.layers.front();
  const bool moe = layer.n_experts > 0;
  for (const LayerConfig& l : config.layers)
    if (l.n_experts != layer.n_experts || l.n_experts_used != layer.n_experts_used ||
        l.d_expert != layer.d_expert)
      inexpressible(config, "layers differ in their experts");
  json["enable_moe_block"] = moe;
  json["num_experts"] = moe ? Json(layer.n_experts) : Json(nullptr);
  json["top_k_experts"] = moe ? Json(layer.n_experts_used) : Json(nullptr);
  json["moe_intermediate_size"] = moe ? Json(layer.d_expert) : Json(nullptr);
}

Json gemma4_json(const ModelConfig& config, HfDialect dialect) {
  const LayerConfig& global = config.layers.back();  // always global in this family
  const LayerConfig* const some_sliding = first_layer(config, AttentionKind::kSliding);
  const LayerConfig& sliding = some_sliding ? *some_sliding : global;
  Json json = common_json(config, "gemma4_text", "Gemma4ForCausalLM", sliding);
  json["hidden_activation"] = "gelu_pytorch_tanh";
  json["layer_types"] = layer_types(config);
  json["sliding_window"] = some_sliding ? sliding.window : 512;
  json["rope_parameters"] = two_ropes(global.rope, sliding.rope);

  int n_own = 0;
  while (n_own < config.n_layers() && config.owns_kv(n_own)) ++n_own;
  json["num_kv_shared_layers"] = config.n_layers() - n_own;
  json["attention_k_eq_v"] = global.k_eq_v;
  const int d_ff = config.layers.front().d_ff;
  json["intermediate_size"] = d_ff;
  json["use_double_wide_mlp"] = n_own < config.n_layers() && global.d_ff == 2 * d_ff;
  json["hidden_size_per_layer_input"] = config.ple_width;
  json["vocab_size_per_layer_input"] = config.vocab_size;
  add_experts(config, json);
  add_softcap(config, json);

  const bool own_kv_heads = global.n_kv_heads != sliding.n_kv_heads;
  const bool own_head_dim = global.head_dim != sliding.head_dim;
  if (dialect == HfDialect::kFlat) {
    json["global_head_dim"] = global.head_dim;
    if (own_kv_heads && !global.k_eq_v)
      inexpressible(config, "global layers with a V of their own have another number of K/V heads");
    if (own_kv_heads) json["num_global_key_value_heads"] = global.n_kv_heads;
  } else if (own_kv_heads || own_head_dim) {
    Json changes;
    if (own_head_dim) changes["head_dim"] = global.head_dim;
    if (own_kv_heads) changes["num_key_value_heads"] = global.n_kv_heads;
    Json layers;
    for (int l = 0; l < config.n_layers(); ++l)
      if (config.layers[static_cast<size_t>(l)].attention == AttentionKind::kGlobal)
        layers[std::to_string(l)] = changes;
    json["per_layer_config"] = layers;
  }
  return json;
}

// Every n-th layer is global; transformers before 5 has no other way to say which.
int global_pattern(const ModelConfig& config) {
  const auto first = std::find_if(config.layers.begin(), config.layers.end(), [](const auto& l) {
    return l.attention == AttentionKind::kGlobal;
  });
  const int pattern = static_cast<int>(first - config.layers.begin()) + 1;
  for (int l = 0; l < config.n_layers(); ++l)
    if ((config.layers[static_cast<size_t>(l)].attention == AttentionKind::kGlobal) !=
        ((l + 1) % pattern == 0))
      inexpressible(config, "global layers do not repeat at equal distances");
  return pattern;
}

Json gemma3_json(const ModelConfig& config, HfDialect dialect) {
  const LayerConfig* const some_global = first_layer(config, AttentionKind::kGlobal);
  const LayerConfig* const some_sliding = first_layer(config, AttentionKind::kSliding);
  const LayerConfig& global = some_global ? *some_global : config.layers.front();
  const LayerConfig& sliding = some_sliding ? *some_sliding : config.layers.front();
  Json json = common_json(config, "gemma3_text", "Gemma3ForCausalLM", global);
  json["hidden_activation"] = "gelu_pytorch_tanh";
  json["sliding_window"] = some_sliding ? sliding.window : 4096;
  // The scale is 1 / sqrt of a whole number.
  const double scale = config.attention_scale;
  json["query_pre_attn_scalar"] = static_cast<int64_t>(1.0 / (scale * scale) + 0.5);
  add_softcap(config, json);
  if (dialect == HfDialect::kTransformers5) {
    json["layer_types"] = layer_types(config);
    json["rope_parameters"] = two_ropes(global.rope, sliding.rope);
  } else {
    if (sliding.rope.kind != RopeKind::kDefault || sliding.rope.factor != 1.0)
      inexpressible(config, "RoPE of sliding layers is scaled");
    json["sliding_window_pattern"] = global_pattern(config);
    json["rope_theta"] = global.rope.theta;
    json["rope_local_base_freq"] = sliding.rope.theta;
    json["rope_scaling"] = rope_scaling(global.rope);
  }
  return json;
}

// Llama 3 and Qwen3: one kind of layer.
Json plain_json(const ModelConfig& config, HfDialect dialect, std::string_view model_type,
                std::string_view architecture) {
  const LayerConfig& layer = config.layers.front();
  Json json = common_json(config, model_type, architecture, layer);
  json["hidden_act"] = "silu";
  if (dialect == HfDialect::kTransformers5) {
    json["rope_parameters"] = rope_json(layer.rope);
  } else {
    json["rope_theta"] = layer.rope.theta;
    json["rope_scaling"] = rope_scaling(layer.rope);
  }
  return json;
}

Json family_json(const ModelConfig& config, HfDialect dialect) {
  if (config.family == "gemma4") return gemma4_json(config, dialect);
  if (config.family == "gemma3") return gemma3_json(config, dialect);
  if (config.family == "llama") return plain_json(config, dialect, "llama", "LlamaForCausalLM");
  if (config.family == "qwen3") return plain_json(config, dialect, "qwen3", "Qwen3ForCausalLM");
  fail(ErrorCode::kBadData, "family '{}' has no config.json (known: gemma4, gemma3, llama, qwen3)",
       config.family);
}

}  // namespace

std::string hf_config_json(const ModelConfig& config, HfDialect dialect) {
  Json json = family_json(config, dialect);
  if (dialect == HfDialect::kFlat) {  // transformers 4 spells it this way
    json["torch_dtype"] = json["dtype"];
    json.erase("dtype");
  }
  return json.dump(2) + "\n";
}

}  // namespace lapidary
