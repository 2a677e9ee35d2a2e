// One function for the keys that all families share, one per family for the rest.
#include "convert/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "convert/gguf_keys.h"
#include "convert/gguf_rope.h"
#include "formats/error.h"
#include "formats/json_guard.h"
#include "formats/utf8.h"

namespace lapidary {
namespace {

constexpr int kMaxLayers = 1023;

struct Reading {
  const GgufSet& file;
  GgufKeys keys;
  ModelConfig config;
  LayerConfig layer;            // what all layers have in common
  std::vector<bool> is_global;  // per layer

  int n_layers() const { return static_cast<int>(is_global.size()); }
};

int32_t token_id(const GgufSet& file, const char* key) {
  const GgufValue* value = file.find(std::string("tokenizer.ggml.") + key);
  const auto* id = value ? std::get_if<uint32_t>(value) : nullptr;
  return id && *id < (1u << 24) ? static_cast<int32_t>(*id) : -1;
}

void read_common(Reading& r) {
  ModelConfig& c = r.config;
  const int n_layers = r.keys.size("block_count");
  if (n_layers < 1 || n_layers > kMaxLayers) r.keys.wrong("block_count", "1 to 1023");
  r.is_global.assign(static_cast<size_t>(n_layers), true);
  c.d_model = r.keys.size("embedding_length");
  c.max_context = r.keys.size("context_length");
  c.norm_eps = static_cast<float>(r.keys.real("attention.layer_norm_rms_epsilon"));
  const int64_t embedding = find_tensor(r.file, "token_embd.weight");
  if (embedding < 0 || r.file.tensor(static_cast<size_t>(embedding)).shape.size() != 2)
    fail(ErrorCode::kBadData, "tensor token_embd.weight is missing; is this a language model?");
  const int64_t vocabulary = r.file.tensor(static_cast<size_t>(embedding)).shape[0];
  if (vocabulary >= (1 << 24))
    fail(ErrorCode::kBadData, "tensor token_embd.weight has {} rows", vocabulary);
  c.vocab_size = static_cast<int>(vocabulary);
  c.tied_head = find_tensor(r.file, "output.weight") < 0;
  c.bos_id = token_id(r.file, "bos_token_id");
  c.pad_id = token_id(r.file, "padding_token_id");
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (const int32_t id = token_id(r.file, key);
        id >= 0 && std::find(c.eos_ids.begin(), c.eos_ids.end(), id) == c.eos_ids.end())
      c.eos_ids.push_back(id);

  r.layer.n_heads = r.keys.per_layer("attention.head_count", n_layers).front();
  if (r.layer.n_heads < 1) r.keys.wrong("attention.head_count", "at least 1");
  r.layer.head_dim = r.keys.size("attention.key_length", c.d_model / r.layer.n_heads);
  if (r.keys.size("attention.value_length", r.layer.head_dim) != r.layer.head_dim)
    r.keys.wrong("attention.value_length", "the same as attention.key_length");
  if (r.keys.size("rope.dimension_count", r.layer.head_dim) != r.layer.head_dim)
    r.keys.wrong("rope.dimension_count", "the same as attention.key_length");
  r.layer.rope.theta = r.keys.real("rope.freq_base", 10000.0);
  const std::string scaling = r.keys.text("rope.scaling.type", "none");
  if (scaling == "linear")
    r.layer.rope.factor = r.keys.real("rope.scaling.factor");
  else if (scaling != "none")
    r.keys.wrong("rope.scaling.type", "none or linear");
  r.layer.rope = with_rope_divisors(r.file, r.layer.rope, r.layer.head_dim);
  c.logit_softcap = static_cast<float>(r.keys.real("final_logit_softcapping", 0.0));
  // Sizes that the tensors state too, and what only other kinds of model look at.
  r.keys.ignore({"vocab_size", "rope.scaling.factor", "rope.scaling.original_context_length",
                 "rope.scaling.finetuned", "attention.causal"});
}

// Layers alike but for what the last arguments name.
void add_layers(Reading& r) {
  const std::vector<int> kv =
      r.keys.per_layer("attention.head_count_kv", r.n_layers(), r.layer.n_heads);
  const std::vector<int> heads = r.keys.per_layer("attention.head_count", r.n_layers());
  const std::vector<int> d_ff = r.keys.per_layer("feed_forward_length", r.n_layers());
  for (int i = 0; i < r.n_layers(); ++i) {
    LayerConfig layer = r.layer;
    layer.n_heads = heads[static_cast<size_t>(i)];
    layer.n_kv_heads = kv[static_cast<size_t>(i)];
    layer.d_ff = d_ff[static_cast<size_t>(i)];
    layer.kv_source = i;
    r.config.layers.push_back(layer);
  }
}

// Global layers stay as they are; the others get windows and numbers of their own.
void add_windows(Reading& r, int pattern) {
  std::vector<int> sliding(r.is_global.size());
  for (size_t i = 0; i < sliding.size(); ++i) sliding[i] = (i + 1) % pattern != 0;
  if (r.keys.has("attention.sliding_window_pattern"))
    sliding = r.keys.per_layer("attention.sliding_window_pattern", r.n_layers());
  const int window = r.keys.size("attention.sliding_window");
  const int head_dim = r.keys.size("attention.key_length_swa", r.layer.head_dim);
  RopeConfig rope;
  rope.theta = r.keys.real("rope.freq_base_swa", 10000.0);
  r.keys.ignore({"attention.value_length_swa", "rope.dimension_count_swa"});
  for (size_t i = 0; i < sliding.size(); ++i) {
    LayerConfig& layer = r.config.layers[i];
    r.is_global[i] = sliding[i] == 0;
    if (r.is_global[i]) continue;
    layer.attention = AttentionKind::kSliding;
    layer.window = window;
    layer.head_dim = head_dim;
    layer.rope = rope;
  }
}

// The last layers read K and V of the last two layers before them, one of each kind.
void share_kv(Reading& r, int n_shared) {
  const int first = r.n_layers() - n_shared;
  if (n_shared > 0 && first < 2) r.keys.wrong("attention.shared_kv_layers", "fewer layers");
  for (int i = 0; i < r.n_layers(); ++i) {
    LayerConfig& layer = r.config.layers[static_cast<size_t>(i)];
    const bool global = r.is_global[static_cast<size_t>(i)];
    if (i >= first) {
      layer.kv_source = first - (global ? 1 : 2);
      layer.k_eq_v = r.config.layers[static_cast<size_t>(layer.kv_source)].k_eq_v;
    } else {
      layer.k_eq_v = global && find_tensor(r.file, fmt::format("blk.{}.attn_v.weight", i)) < 0;
    }
  }
}

void read_gemma4(Reading& r) {
  add_layers(r);
  add_windows(r, 6);
  share_kv(r, r.keys.size("attention.shared_kv_layers", 0));
  if (r.keys.size("expert_count", 0) > 0)
    for (LayerConfig& layer : r.config.layers) {
      layer.n_experts = r.keys.size("expert_count");
      layer.n_experts_used = r.keys.size("expert_used_count");
      layer.d_expert = r.keys.size("expert_feed_forward_length");
    }
  r.config.ple_width = r.keys.size("embedding_length_per_layer_input", 0);
  r.config.sandwich_norms = r.config.qk_norm = r.config.v_norm = r.config.layer_scalar = true;
  r.config.embedding_scale = std::sqrt(static_cast<float>(r.config.d_model));
  r.keys.ignore({"expert_used_count", "expert_feed_forward_length"});
}

void read_gemma3(Reading& r) {
  add_layers(r);
  add_windows(r, 6);
  r.config.norm_unit_offset = r.config.sandwich_norms = r.config.qk_norm = true;
  // The 27B model, known by its depth, divides by the width of a head as d_model cuts it.
  const int divisor = r.n_layers() == 62 ? r.config.d_model / r.layer.n_heads : r.layer.head_dim;
  r.config.attention_scale = static_cast<float>(1.0 / std::sqrt(divisor));
  r.config.embedding_scale = std::sqrt(static_cast<float>(r.config.d_model));
}

void read_silu(Reading& r) {
  add_layers(r);
  r.config.qk_norm = r.config.family == "qwen3";
  r.config.attention_scale = static_cast<float>(1.0 / std::sqrt(r.layer.head_dim));
  r.config.activation = Activation::kSilu;
}

const Family& family_of(const std::string& architecture) {
  if (architecture == "gemma4") return gemma4_family();
  if (architecture == "gemma3") return gemma3_family();
  if (architecture == "llama") return llama3_family();
  if (architecture == "qwen3") return qwen3_family();
  fail(ErrorCode::kBadData,
       "general.architecture is \"{}\"; gemma4, gemma3, llama and qwen3 are supported",
       excerpt(architecture));
}

std::string text_or_empty(const GgufSet& file, const char* key) {
  const GgufValue* value = file.find(key);
  const auto* text = value ? std::get_if<std::string>(value) : nullptr;
  if (text && !is_valid_utf8(*text)) fail(ErrorCode::kBadData, "key {}: not UTF-8", key);
  return text ? *text : std::string();
}

std::string generation_config(const GgufSet& file) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const auto add = [&](const char* key, const char* name) {
    const GgufValue* value = file.find(std::string("general.sampling.") + key);
    if (!value) return;
    if (const auto* n = std::get_if<int32_t>(value)) json[name] = *n;
    // The shortest decimal of a float32: 0.95 and not 0.949999988.
    if (const auto* x = std::get_if<float>(value); x && std::isfinite(*x))
      json[name] = std::stod(fmt::format("{}", *x));
  };
  add("temp", "temperature");
  add("top_k", "top_k");
  add("top_p", "top_p");
  return json.dump();
}

}  // namespace

int64_t find_tensor(const GgufSet& file, std::string_view name) {
  for (size_t i = 0; i < file.size(); ++i)
    if (file.tensor(i).name == name) return static_cast<int64_t>(i);
  return -1;
}

GgufConfig read_gguf_config(const GgufSet& file) {
  const std::string architecture = text_or_empty(file, "general.architecture");
  const Family& family = family_of(architecture);
  Reading r{file, GgufKeys(file, architecture), {}, {}, {}};
  r.config.family = family.name;
  read_common(r);
  if (architecture == "gemma4")
    read_gemma4(r);
  else if (architecture == "gemma3")
    read_gemma3(r);
  else
    read_silu(r);
  r.keys.finish();
  validate(r.config);
  return {std::move(r.config), &family};
}

ModelMetadata gguf_model_metadata(const GgufSet& file, ModelConfig config) {
  ModelMetadata metadata;
  metadata.config = std::move(config);
  metadata.chat_template = text_or_empty(file, "tokenizer.chat_template");
  metadata.generation_config = generation_config(file);
  metadata.recipe = metadata.kv = "{}";
  return metadata;
}

}  // namespace lapidary
