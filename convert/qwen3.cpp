// Qwen3 dense (Qwen3ForCausalLM): as Llama, with per-head norms on q and k before RoPE.
//
// Source: transformers' Qwen3Config.
#include <cmath>

#include "convert/family.h"

namespace lapidary {
namespace {

ModelConfig read_config(const ConfigReader& text) {
  ModelConfig config;
  config.family = "qwen3";
  refuse_common(text);
  read_common(text, /*tied_by_default=*/false, &config);
  if (text.text("hidden_act", "silu") != "silu") text.unsupported("hidden_act", "silu");
  text.refuse("use_sliding_window", "sliding windows are not supported in this family");
  // Without use_sliding_window these two say nothing.
  text.ignore({"sliding_window", "max_window_layers"});

  LayerConfig layer;
  layer.attention = AttentionKind::kGlobal;
  layer.n_heads = text.size("num_attention_heads");
  layer.n_kv_heads = text.size("num_key_value_heads", layer.n_heads);
  layer.head_dim = text.size("head_dim");
  layer.d_ff = text.size("intermediate_size");
  layer.rope = read_single_rope(text);
  const int n_layers = read_n_layers(text);
  for (const bool global : read_global_layers(text, n_layers, /*pattern=*/1))
    if (!global) text.unsupported("layer_types", "full_attention in every layer");
  for (int i = 0; i < n_layers; ++i) {
    layer.kv_source = i;
    config.layers.push_back(layer);
  }

  config.norm_eps = static_cast<float>(text.number("rms_norm_eps"));
  config.qk_norm = true;
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(layer.head_dim));
  config.activation = Activation::kSilu;
  return config;
}

ExpectedTensors expected_tensors(const ModelConfig& config) {
  ExpectedTensors tensors;
  add_ends(config, &tensors);
  for (int i = 0; i < config.n_layers(); ++i) {
    const std::string p = layer_prefix(i);
    add_attention(config, i, &tensors);
    add_mlp(config, i, &tensors);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      tensors.add(p + norm + ".weight", {config.d_model});
  }
  return tensors;
}

}  // namespace

const Family& qwen3_family() {
  static const Family family{"qwen3", {"qwen3"}, read_config, expected_tensors};
  return family;
}

}  // namespace lapidary
