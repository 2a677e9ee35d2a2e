// The registry of families, and what their readings share.
#include "convert/family.h"

#include "formats/error.h"

namespace lapidary {
namespace {

constexpr int kMostLayers = 1023;  // as validate(ModelConfig)

}  // namespace

const Family& find_family(std::string_view model_type) {
  const Family* families[] = {&gemma4_family(), &gemma4_assistant_family(), &gemma3_family(),
                              &llama3_family(), &qwen3_family()};
  std::string supported;
  for (const Family* family : families) {
    for (const std::string_view type : family->model_types) {
      if (type == model_type) return *family;
      supported += (supported.empty() ? "" : ", ") + std::string(type);
    }
  }
  fail(ErrorCode::kBadData,
       "model_type '{}' is not supported (supported: gemma4, gemma4_unified, {})", model_type,
       supported);
}

void read_common(const ConfigReader& text, bool tied_by_default, ModelConfig* config) {
  config->d_model = text.size("hidden_size");
  config->vocab_size = text.size("vocab_size");
  config->max_context = text.length("max_position_embeddings");
  config->tied_head = text.flag("tie_word_embeddings", tied_by_default);
  const auto first = [](const std::vector<int32_t>& ids) { return ids.empty() ? -1 : ids[0]; };
  config->bos_id = first(text.ids("bos_token_id"));
  config->pad_id = first(text.ids("pad_token_id"));
  config->eos_ids = text.ids("eos_token_id");
}

int read_n_layers(const ConfigReader& text) {
  const int n_layers = text.size("num_hidden_layers");
  if (n_layers > kMostLayers) text.wrong("num_hidden_layers", fmt::format("1 to {}", kMostLayers));
  return n_layers;
}

void refuse_common(const ConfigReader& text) {
  text.refuse("quantization_config",
              "already quantized checkpoints are not read; give the bf16 original");
  text.refuse("compression_config",
              "already quantized checkpoints are not read; give the bf16 original");
  text.refuse("attention_bias", "projections with a bias are not supported");
  text.refuse("mlp_bias", "projections with a bias are not supported");
  text.refuse("add_cross_attention", "cross-attention is not supported");
  text.refuse("is_encoder_decoder", "encoder-decoder models are not supported");
  text.refuse("cross_attention_hidden_size", "cross-attention is not supported");
  text.refuse("tie_encoder_decoder", "encoder-decoder models are not supported");
  text.refuse("pruned_heads", "pruned heads are not supported");
  text.refuse("is_decoder", "only plain causal models are supported");
}

RopeConfig read_rope(const ConfigReader& rope, double theta) {
  RopeConfig config;
  config.theta = rope.number("rope_theta", theta);
  // "type" is the spelling of transformers before 4.43.
  const char* type_key = rope.has("rope_type") || !rope.has("type") ? "rope_type" : "type";
  const std::string type = rope.text(type_key, "default");
  if (type == "default") {
    config.kind = RopeKind::kDefault;
    rope.ignore({"factor"});  // transformers reads it for the scaled types only
  } else if (type == "linear") {
    config.kind = RopeKind::kDefault;
    config.factor = rope.number("factor");
  } else if (type == "proportional") {
    config.kind = RopeKind::kProportional;
    config.rotated_fraction = rope.number("partial_rotary_factor", 1.0);
    config.factor = rope.number("factor", 1.0);
  } else if (type == "llama3") {
    config.kind = RopeKind::kLlama3;
    config.factor = rope.number("factor");
    config.low_freq_factor = rope.number("low_freq_factor");
    config.high_freq_factor = rope.number("high_freq_factor");
    config.original_context = rope.length("original_max_position_embeddings");
  } else {
    rope.unsupported(type_key, "default, linear, proportional, llama3");
  }
  if (config.kind != RopeKind::kProportional && rope.number("partial_rotary_factor", 1.0) != 1.0)
    rope.unsupported("partial_rotary_factor", "1 with this rope type");
  // Both spellings may stand side by side in one file.
  rope.ignore({"rope_type", "type"});
  rope.finish({});
  return config;
}

RopeConfig read_single_rope(const ConfigReader& text) {
  if (text.has("rope_parameters")) {
    // A file may carry the older keys beside the new ones; they say the same.
    text.ignore({"rope_theta", "rope_scaling"});
    const ConfigReader rope = text.object("rope_parameters");
    return read_rope(rope, rope.number("rope_theta"));
  }
  const double theta = text.number("rope_theta");
  if (!text.has("rope_scaling")) return RopeConfig{.theta = theta};
  return read_rope(text.object("rope_scaling"), theta);
}

std::vector<bool> read_global_layers(const ConfigReader& text, int n_layers, int pattern) {
  std::vector<bool> global(static_cast<size_t>(n_layers));
  if (!text.has("layer_types")) {
    for (int i = 0; i < n_layers; ++i) global[i] = (i + 1) % pattern == 0;
    return global;
  }
  const std::vector<std::string> types = text.texts("layer_types");
  if (types.size() != global.size())
    text.wrong("layer_types", fmt::format("{} entries, as num_hidden_layers says", n_layers));
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] != "full_attention" && types[i] != "sliding_attention")
      text.unsupported("layer_types", "full_attention, sliding_attention");
    global[i] = types[i] == "full_attention";
  }
  return global;
}

std::string layer_prefix(int layer) { return fmt::format("model.layers.{}.", layer); }

void add_attention(const ModelConfig& config, int layer, ExpectedTensors* tensors) {
  const LayerConfig& l = config.layers[layer];
  const std::string p = layer_prefix(layer) + "self_attn.";
  const int64_t d = config.d_model, q = int64_t{l.n_heads} * l.head_dim,
                kv = int64_t{l.n_kv_heads} * l.head_dim;
  tensors->add(p + "q_proj.weight", {q, d});
  tensors->add(p + "o_proj.weight", {d, q});
  if (config.qk_norm) tensors->add(p + "q_norm.weight", {l.head_dim});
  if (config.owns_kv(layer)) {
    tensors->add(p + "k_proj.weight", {kv, d});
    if (!l.k_eq_v) tensors->add(p + "v_proj.weight", {kv, d});
    if (config.qk_norm) tensors->add(p + "k_norm.weight", {l.head_dim});
  } else {
    for (const char* name : {"k_proj.weight", "v_proj.weight", "k_norm.weight"})
      tensors->unused[p + name] = "K and V of layers that share another layer's";
  }
}

void add_mlp(const ModelConfig& config, int layer, ExpectedTensors* tensors) {
  const std::string p = layer_prefix(layer) + "mlp.";
  const int64_t d = config.d_model, d_ff = config.layers[layer].d_ff;
  tensors->add(p + "gate_proj.weight", {d_ff, d});
  tensors->add(p + "up_proj.weight", {d_ff, d});
  tensors->add(p + "down_proj.weight", {d, d_ff});
}

void add_ends(const ModelConfig& config, ExpectedTensors* tensors) {
  tensors->add("model.embed_tokens.weight", {config.vocab_size, config.d_model});
  tensors->add("model.norm.weight", {config.d_model});
  if (!config.tied_head) tensors->add("lm_head.weight", {config.vocab_size, config.d_model});
}

}  // namespace lapidary
