// Llama 3.x dense (LlamaForCausalLM): pre-norm only, SwiGLU, llama3-scaled RoPE, no q/k norms.
//
// Source: transformers' LlamaConfig.
#include <cmath>

#include "convert/family.h"

namespace lapidary {
namespace {

ModelConfig read_config(const ConfigReader& text) {
  ModelConfig config;
  config.family = "llama";
  refuse_common(text);
  read_common(text, /*tied_by_default=*/false, &config);
  if (text.text("hidden_act", "silu") != "silu") text.unsupported("hidden_act", "silu");

  LayerConfig layer;
  layer.attention = AttentionKind::kGlobal;
  layer.n_heads = text.size("num_attention_heads");
  layer.n_kv_heads = text.size("num_key_value_heads", layer.n_heads);
  layer.head_dim = text.size("head_dim", config.d_model / layer.n_heads);
  layer.d_ff = text.size("intermediate_size");
  layer.rope = read_single_rope(text);
  const int n_layers = read_n_layers(text);
  for (int i = 0; i < n_layers; ++i) {
    layer.kv_source = i;
    config.layers.push_back(layer);
  }

  config.norm_eps = static_cast<float>(text.number("rms_norm_eps"));
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
    // Files of 2023 store this table; it follows from the config.
    tensors.unused[p + "self_attn.rotary_emb.inv_freq"] = "RoPE tables";
  }
  return tensors;
}

}  // namespace

const Family& llama3_family() {
  static const Family family{"llama", {"llama"}, read_config, expected_tensors};
  return family;
}

}  // namespace lapidary
