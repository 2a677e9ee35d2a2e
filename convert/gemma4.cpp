// Gemma 4: E2B, E4B (per-layer embeddings, shared K/V), 12B, 31B (k_eq_v), 26B-A4B (experts).
//
// Two config dialects say the same: transformers 5 writes `per_layer_config` with the layers that
// differ, the released files write `global_head_dim` and `num_global_key_value_heads`.
// Source: transformers' Gemma4TextConfig.
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "convert/family.h"

namespace lapidary {
namespace {

// The layer that a key of per_layer_config means; -1: none.
int layer_number(const std::string& key, int n_layers) {
  int layer = -1;
  const char* const end = key.data() + key.size();
  const auto [stop, error] = std::from_chars(key.data(), end, layer);
  return error == std::errc() && stop == end && layer < n_layers ? layer : -1;
}

// The newer dialect: only what differs from the common values.
void apply_per_layer_config(const ConfigReader& text, ModelConfig* config) {
  if (!text.has("per_layer_config")) return;
  const ConfigReader layers = text.object("per_layer_config");
  for (const std::string& key : layers.keys()) {
    const ConfigReader changes = layers.object(key);
    const int number = layer_number(key, config->n_layers());
    if (number < 0)
      layers.wrong(key, fmt::format("only layers 0 to {} as keys", config->n_layers() - 1));
    LayerConfig& layer = config->layers[number];
    layer.head_dim = changes.size("head_dim", layer.head_dim);
    layer.n_kv_heads = changes.size("num_key_value_heads", layer.n_kv_heads);
    changes.finish({});
  }
}

// A sharing layer reads K and V of the last earlier layer of its kind that has its own.
void share_kv(const ConfigReader& text, int n_shared, ModelConfig* config) {
  const int n_layers = config->n_layers(), first_shared = n_layers - n_shared;
  for (int i = first_shared; i < n_layers; ++i) {
    LayerConfig& layer = config->layers[i];
    layer.kv_source = first_shared - 1;
    while (layer.kv_source >= 0 && config->layers[layer.kv_source].attention != layer.attention)
      --layer.kv_source;
    if (layer.kv_source < 0)
      text.wrong("num_kv_shared_layers", "an earlier layer of each kind with its own K and V");
    layer.k_eq_v = config->layers[layer.kv_source].k_eq_v;
  }
}

void read_experts(const ConfigReader& text, ModelConfig* config) {
  if (!text.flag("enable_moe_block", false)) {
    text.ignore(
        {"num_experts", "top_k_experts", "moe_intermediate_size", "expert_intermediate_size"});
    return;
  }
  // Early files spell the width the second way.
  const char* width_key =
      text.has("moe_intermediate_size") ? "moe_intermediate_size" : "expert_intermediate_size";
  const int n_experts = text.size("num_experts"), n_used = text.size("top_k_experts"),
            width = text.size(width_key);
  text.ignore({"moe_intermediate_size", "expert_intermediate_size"});
  for (LayerConfig& layer : config->layers) {
    layer.n_experts = n_experts;
    layer.n_experts_used = n_used;
    layer.d_expert = width;
  }
}

struct Ropes {
  RopeConfig global, sliding;
};

Ropes read_ropes(const ConfigReader& text) {
  const ConfigReader ropes = text.object("rope_parameters");
  const ConfigReader global = ropes.object("full_attention");
  const ConfigReader sliding = ropes.object("sliding_attention");
  ropes.finish({});
  return {read_rope(global, global.number("rope_theta")),
          read_rope(sliding, sliding.number("rope_theta"))};
}

// How many of the last layers read K and V of an earlier one. All of an assistant's read another
// model's, whether the file says so or not: none shares in here.
int shared_layers(const ConfigReader& text, int n_layers, const ModelConfig& config) {
  const int n_shared = text.count("num_kv_shared_layers", 0);
  if (!config.is_assistant()) {
    if (n_shared >= n_layers) text.wrong("num_kv_shared_layers", "less than num_hidden_layers");
    return n_shared;
  }
  if (n_shared != 0 && n_shared != n_layers)
    text.wrong("num_kv_shared_layers", "all layers of an assistant");
  return 0;
}

void read_layers(const ConfigReader& text, ModelConfig* config) {
  const int n_layers = read_n_layers(text), window = text.size("sliding_window");
  const int n_shared = shared_layers(text, n_layers, *config);
  const bool double_wide = text.flag("use_double_wide_mlp", false);
  const bool k_eq_v = text.flag("attention_k_eq_v", false);
  const Ropes ropes = read_ropes(text);

  LayerConfig layer;
  layer.n_heads = text.size("num_attention_heads");
  const int d_ff = text.size("intermediate_size");
  const int head_dim = text.size("head_dim");
  const int global_head_dim = text.size("global_head_dim", head_dim);
  const int n_kv_heads = text.size("num_key_value_heads");
  // transformers looks at the separate number only where K is V.
  const int written_kv_heads = text.size("num_global_key_value_heads", n_kv_heads);
  const int global_kv_heads = k_eq_v ? written_kv_heads : n_kv_heads;

  std::vector<bool> global = read_global_layers(text, n_layers, /*pattern=*/6);
  global.back() = true;  // as transformers does, whatever the list says
  for (int i = 0; i < n_layers; ++i) {
    layer.attention = global[i] ? AttentionKind::kGlobal : AttentionKind::kSliding;
    layer.window = global[i] ? 0 : window;
    layer.head_dim = global[i] ? global_head_dim : head_dim;
    layer.n_kv_heads = global[i] ? global_kv_heads : n_kv_heads;
    layer.rope = global[i] ? ropes.global : ropes.sliding;
    layer.kv_source = i;
    layer.k_eq_v = global[i] && k_eq_v;
    layer.d_ff = double_wide && i >= n_layers - n_shared ? 2 * d_ff : d_ff;
    config->layers.push_back(layer);
  }
  apply_per_layer_config(text, config);
  share_kv(text, n_shared, config);
  read_experts(text, config);
}

void add_per_layer_embeddings(const ModelConfig& config, ExpectedTensors* tensors) {
  const int64_t width = config.ple_width, d = config.d_model, all = config.n_layers() * width;
  tensors->add("model.embed_tokens_per_layer.weight", {config.vocab_size, all});
  tensors->add("model.per_layer_model_projection.weight", {all, d});
  tensors->add("model.per_layer_projection_norm.weight", {width});
  for (int i = 0; i < config.n_layers(); ++i) {
    const std::string p = layer_prefix(i);
    tensors->add(p + "per_layer_input_gate.weight", {width, d});
    tensors->add(p + "per_layer_projection.weight", {d, width});
    tensors->add(p + "post_per_layer_input_norm.weight", {d});
  }
}

void add_experts(const ModelConfig& config, int layer, ExpectedTensors* tensors) {
  const LayerConfig& l = config.layers[layer];
  const std::string p = layer_prefix(layer);
  const int64_t d = config.d_model, n = l.n_experts, width = l.d_expert;
  tensors->add(p + "router.proj.weight", {n, d});
  tensors->add(p + "router.scale", {d});
  tensors->add(p + "router.per_expert_scale", {n});
  tensors->add(p + "experts.gate_up_proj", {n, 2 * width, d});  // per expert: gate rows, then up
  tensors->add(p + "experts.down_proj", {n, d, width});
  for (const char* norm : {"post_feedforward_layernorm_1", "post_feedforward_layernorm_2",
                           "pre_feedforward_layernorm_2"})
    tensors->add(p + norm + ".weight", {d});
}

ModelConfig read_config(const ConfigReader& text) { return read_gemma4_text(text, {}); }

}  // namespace

ModelConfig read_gemma4_text(const ConfigReader& text, const AssistantConfig& assistant) {
  ModelConfig config;
  config.assistant = assistant;
  config.family = "gemma4";
  refuse_common(text);
  read_common(text, /*tied_by_default=*/true, &config);
  if (text.text("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh")
    text.unsupported("hidden_activation", "gelu_pytorch_tanh");
  text.refuse("attn_logit_softcapping", "soft-capped attention scores are not supported");
  // "vision" concerns image tokens only; text stays causal.
  if (!text.neutral("use_bidirectional_attention") &&
      text.text("use_bidirectional_attention") != "vision")
    text.unsupported("use_bidirectional_attention", "null, vision");

  read_layers(text, &config);
  config.ple_width = text.count("hidden_size_per_layer_input", 0);
  const int ple_vocabulary = text.count("vocab_size_per_layer_input", config.vocab_size);
  if (config.ple_width > 0 && ple_vocabulary != config.vocab_size)
    text.unsupported("vocab_size_per_layer_input", "the value of vocab_size");

  config.norm_eps = static_cast<float>(text.number("rms_norm_eps"));
  config.sandwich_norms = true;
  config.qk_norm = true;
  config.v_norm = true;
  config.layer_scalar = true;
  config.attention_scale = 1.0f;  // q_norm and k_norm carry it
  config.embedding_scale = std::sqrt(static_cast<float>(config.d_model));
  config.logit_softcap = static_cast<float>(text.number("final_logit_softcapping", 0.0));
  config.activation = Activation::kGeluTanh;
  return config;
}

ExpectedTensors gemma4_tensors(const ModelConfig& config) {
  ExpectedTensors tensors;
  add_ends(config, &tensors);
  if (config.ple_width > 0) add_per_layer_embeddings(config, &tensors);
  for (int i = 0; i < config.n_layers(); ++i) {
    const std::string p = layer_prefix(i);
    add_attention(config, i, &tensors);
    add_mlp(config, i, &tensors);
    if (config.layers[i].n_experts > 0) add_experts(config, i, &tensors);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm",
                             "pre_feedforward_layernorm", "post_feedforward_layernorm"})
      tensors.add(p + norm + ".weight", {config.d_model});
    tensors.add(p + "layer_scalar", {1});
  }
  return tensors;
}

const Family& gemma4_family() {
  static const Family family{
      "gemma4", {"gemma4_text", "gemma4_unified_text"}, read_config, gemma4_tensors};
  return family;
}

}  // namespace lapidary
