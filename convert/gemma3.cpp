// Gemma 3 text (270M, 1B, FunctionGemma): four norms per layer, sliding and global layers with two
// RoPE bases, norms that multiply by 1 + w.
//
// Source: transformers' Gemma3TextConfig.
#include <cmath>

#include "convert/family.h"

namespace lapidary {
namespace {

struct Ropes {
  RopeConfig global, sliding;
};

// transformers 5 has one dictionary per layer type; before, two bases, and a scaling that concerned
// the global layers only.
Ropes read_ropes(const ConfigReader& text) {
  if (text.has("rope_parameters")) {
    text.ignore({"rope_theta", "rope_local_base_freq", "rope_scaling"});
    const ConfigReader ropes = text.object("rope_parameters");
    const ConfigReader global = ropes.object("full_attention");
    const ConfigReader sliding = ropes.object("sliding_attention");
    ropes.finish({});
    return {read_rope(global, global.number("rope_theta")),
            read_rope(sliding, sliding.number("rope_theta"))};
  }
  const double theta = text.number("rope_theta");
  Ropes ropes{{.theta = theta}, {.theta = text.number("rope_local_base_freq")}};
  if (text.has("rope_scaling")) ropes.global = read_rope(text.object("rope_scaling"), theta);
  return ropes;
}

// Both spellings of the older dialect; transformers' default is 6.
int read_pattern(const ConfigReader& text) {
  const int pattern = text.size("_sliding_window_pattern", 6);
  return text.size("sliding_window_pattern", pattern);
}

ModelConfig read_config(const ConfigReader& text) {
  ModelConfig config;
  config.family = "gemma3";
  refuse_common(text);
  read_common(text, /*tied_by_default=*/true, &config);
  if (text.text("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh")
    text.unsupported("hidden_activation", "gelu_pytorch_tanh");
  text.refuse("attn_logit_softcapping", "soft-capped attention scores are not supported");
  text.refuse("use_bidirectional_attention", "only causal attention is supported");

  LayerConfig layer;
  layer.n_heads = text.size("num_attention_heads");
  layer.n_kv_heads = text.size("num_key_value_heads");
  layer.head_dim = text.size("head_dim");
  layer.d_ff = text.size("intermediate_size");
  const int n_layers = read_n_layers(text), window = text.size("sliding_window");
  const Ropes ropes = read_ropes(text);
  const std::vector<bool> global = read_global_layers(text, n_layers, read_pattern(text));
  for (int i = 0; i < n_layers; ++i) {
    layer.attention = global[i] ? AttentionKind::kGlobal : AttentionKind::kSliding;
    layer.window = global[i] ? 0 : window;
    layer.rope = global[i] ? ropes.global : ropes.sliding;
    layer.kv_source = i;
    config.layers.push_back(layer);
  }

  config.norm_eps = static_cast<float>(text.number("rms_norm_eps"));
  config.norm_unit_offset = true;
  config.sandwich_norms = true;
  config.qk_norm = true;
  config.attention_scale =
      static_cast<float>(1.0 / std::sqrt(text.number("query_pre_attn_scalar")));
  config.embedding_scale = std::sqrt(static_cast<float>(config.d_model));
  config.logit_softcap = static_cast<float>(text.number("final_logit_softcapping", 0.0));
  config.activation = Activation::kGeluTanh;
  return config;
}

ExpectedTensors expected_tensors(const ModelConfig& config) {
  ExpectedTensors tensors;
  add_ends(config, &tensors);
  for (int i = 0; i < config.n_layers(); ++i) {
    const std::string p = layer_prefix(i);
    add_attention(config, i, &tensors);
    add_mlp(config, i, &tensors);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm",
                             "pre_feedforward_layernorm", "post_feedforward_layernorm"})
      tensors.add(p + norm + ".weight", {config.d_model});
  }
  return tensors;
}

}  // namespace

const Family& gemma3_family() {
  static const Family family{"gemma3", {"gemma3_text"}, read_config, expected_tensors};
  return family;
}

}  // namespace lapidary
