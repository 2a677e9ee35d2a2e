// ModelConfig to llama.cpp's keys.
#include "export/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "formats/error.h"

namespace lapidary {
namespace {

class Keys {
 public:
  explicit Keys(const ModelConfig& config) : config_(config) {}

  void add(std::string key, GgufValue value) {
    pairs_.push_back({std::move(key), std::move(value)});
  }
  void add_arch(const std::string& key, GgufValue value) {
    add(config_.family + "." + key, std::move(value));
  }
  void number(const std::string& key, int64_t value) {
    add_arch(key, static_cast<uint32_t>(value));
  }
  void real(const std::string& key, double value) { add_arch(key, static_cast<float>(value)); }
  // One number, or one per layer where they differ.
  template <class F>
  void per_layer(const std::string& key, F&& f) {
    std::vector<int32_t> values;
    for (const LayerConfig& layer : config_.layers) values.push_back(f(layer));
    if (std::all_of(values.begin(), values.end(), [&](int32_t v) { return v == values[0]; }))
      number(key, values[0]);
    else
      add_arch(key, std::move(values));
  }
  std::vector<GgufPair> take() { return std::move(pairs_); }

 private:
  const ModelConfig& config_;
  std::vector<GgufPair> pairs_;
};

bool is_sliding(const LayerConfig& layer) { return layer.attention == AttentionKind::kSliding; }

// The first layer of a kind; null: none.
const LayerConfig* first_of(const ModelConfig& config, AttentionKind kind) {
  for (const LayerConfig& layer : config.layers)
    if (layer.attention == kind) return &layer;
  return nullptr;
}

int n_shared_layers(const ModelConfig& config) {
  int n = 0;
  for (int i = 0; i < config.n_layers(); ++i) n += config.owns_kv(i) ? 0 : 1;
  return n;
}

[[noreturn]] void inexpressible(const ModelConfig& config, const std::string& what) {
  fail(ErrorCode::kBadData, "llama.cpp's {} models cannot express {}", config.family, what);
}

// llama.cpp keeps one set of numbers per kind of attention, and derives the rest from its name.
void check_expressible(const ModelConfig& config) {
  if (config.family != "gemma4" && config.family != "gemma3" && config.family != "llama" &&
      config.family != "qwen3")
    fail(ErrorCode::kBadData, "GGUF export does not know the family \"{}\"", config.family);
  const bool gemma = config.family.starts_with("gemma");
  const int first_shared = config.n_layers() - n_shared_layers(config);
  for (int i = 0; i < config.n_layers(); ++i) {
    const LayerConfig& layer = config.layers[static_cast<size_t>(i)];
    const LayerConfig& same = *first_of(config, layer.attention);
    if (layer.head_dim != same.head_dim || layer.window != same.window ||
        !(layer.rope == same.rope))
      inexpressible(config, "layers of one attention kind with different heads, windows or RoPE");
    if (is_sliding(layer) && !gemma) inexpressible(config, "sliding windows");
    // src/llama-model.cpp: shared layers read the last two layers with K and V of their own.
    if (i >= first_shared && layer.kv_source != first_shared - (is_sliding(layer) ? 2 : 1))
      inexpressible(config, "this pattern of shared K and V");
  }
  const double natural =
      config.family == "gemma4" ? 1.0 : 1.0 / std::sqrt(config.layers.back().head_dim);
  if (std::abs(config.attention_scale - natural) > 1e-6 * natural)
    inexpressible(config, "an attention scale of " + std::to_string(config.attention_scale));
  const double scale = gemma ? std::sqrt(config.d_model) : 1.0;
  if (std::abs(config.embedding_scale - scale) > 1e-5 * scale)
    inexpressible(config, "an embedding scale of " + std::to_string(config.embedding_scale));
}

void add_attention(const ModelConfig& config, Keys* keys) {
  keys->per_layer("attention.head_count", [](const auto& l) { return l.n_heads; });
  keys->per_layer("attention.head_count_kv", [](const auto& l) { return l.n_kv_heads; });
  keys->real("attention.layer_norm_rms_epsilon", config.norm_eps);
  const LayerConfig* sliding = first_of(config, AttentionKind::kSliding);
  const LayerConfig* global = first_of(config, AttentionKind::kGlobal);
  const LayerConfig& main = global ? *global : *sliding;
  keys->number("attention.key_length", main.head_dim);
  keys->number("attention.value_length", main.head_dim);
  keys->number("rope.dimension_count", main.head_dim);
  keys->real("rope.freq_base", main.rope.theta);
  if (config.family == "gemma3" && main.rope.factor != 1.0) {
    keys->add_arch("rope.scaling.type", std::string("linear"));
    keys->real("rope.scaling.factor", main.rope.factor);
  }
  if (!sliding) return;
  std::vector<bool> pattern;
  for (const LayerConfig& layer : config.layers) pattern.push_back(is_sliding(layer));
  keys->number("attention.sliding_window", sliding->window);
  keys->add_arch("attention.sliding_window_pattern", pattern);
  keys->real("rope.freq_base_swa", sliding->rope.theta);
  if (config.family == "gemma3") {
    if (sliding->head_dim != main.head_dim) inexpressible(config, "two head sizes");
    return;
  }
  keys->number("attention.key_length_swa", sliding->head_dim);
  keys->number("attention.value_length_swa", sliding->head_dim);
  keys->number("rope.dimension_count_swa", sliding->head_dim);
}

void add_experts(const ModelConfig& config, Keys* keys) {
  const LayerConfig& layer = config.layers.front();
  if (layer.n_experts == 0) return;
  keys->number("expert_count", layer.n_experts);
  keys->number("expert_used_count", layer.n_experts_used);
  keys->number("expert_feed_forward_length", layer.d_expert);
}

// Defaults of generation_config.json where they are the numbers we expect.
void add_sampling(const std::string& generation_config, Keys* keys) {
  const auto json = nlohmann::json::parse(generation_config, nullptr, false);
  if (!json.is_object()) return;
  const auto number = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_number() ? found->get<double>() : -1.0;
  };
  if (number("top_k") > 0)
    keys->add("general.sampling.top_k", static_cast<int32_t>(number("top_k")));
  if (number("top_p") > 0) keys->add("general.sampling.top_p", static_cast<float>(number("top_p")));
  if (number("temperature") > 0)
    keys->add("general.sampling.temp", static_cast<float>(number("temperature")));
}

// llama.cpp's llama_ftype: a label for people.
uint32_t file_type(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return 0;
    case GgmlType::kQ4_0:
      return 2;
    case GgmlType::kQ8_0:
      return 7;
    case GgmlType::kQ5_0:
      return 8;
    case GgmlType::kQ3_K:
      return 12;
    case GgmlType::kQ4_K:
      return 15;
    case GgmlType::kQ5_K:
      return 17;
    case GgmlType::kQ6_K:
      return 18;
    case GgmlType::kIQ4_NL:
      return 25;
    case GgmlType::kIQ4_XS:
      return 30;
    case GgmlType::kBF16:
      return 32;
    default:
      return 1;  // mostly F16
  }
}

// What the scaled frequency of pair i is divided by, beside its plain exponent.
// Source: transformers' modeling_rope_utils.py.
double llama3_divisor(const RopeConfig& rope, double plain) {
  const double length = 2 * std::numbers::pi / plain;
  const double context = static_cast<double>(rope.original_context);
  if (length < context / rope.high_freq_factor) return 1.0;
  if (length > context / rope.low_freq_factor) return rope.factor;
  const double smooth =
      (context / length - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return 1.0 / ((1.0 - smooth) / rope.factor + smooth);
}

}  // namespace

std::vector<GgufPair> gguf_metadata(const ModelMetadata& metadata, const std::string& model_name,
                                    GgmlType main_type) {
  const ModelConfig& config = metadata.config;
  check_expressible(config);
  Keys keys(config);
  keys.add("general.architecture", config.family);
  keys.add("general.type", std::string("model"));
  keys.add("general.name", model_name);
  keys.add("general.quantization_version", uint32_t{2});
  keys.add("general.file_type", file_type(main_type));
  add_sampling(metadata.generation_config, &keys);
  keys.number("vocab_size", config.vocab_size);
  keys.number("context_length", config.max_context);
  keys.number("embedding_length", config.d_model);
  keys.number("block_count", config.n_layers());
  keys.per_layer("feed_forward_length", [](const auto& l) { return l.d_ff; });
  add_attention(config, &keys);
  add_experts(config, &keys);
  if (config.logit_softcap > 0) keys.real("final_logit_softcapping", config.logit_softcap);
  if (config.family == "gemma4") {
    keys.number("attention.shared_kv_layers", n_shared_layers(config));
    keys.number("embedding_length_per_layer_input", config.ple_width);
  }
  if (!metadata.chat_template.empty()) keys.add("tokenizer.chat_template", metadata.chat_template);
  return keys.take();
}

std::vector<float> gguf_rope_divisors(const ModelConfig& config) {
  const LayerConfig* global = first_of(config, AttentionKind::kGlobal);
  if (!global || (global->rope.kind != RopeKind::kLlama3 && config.family != "gemma4")) return {};
  const RopeConfig& rope = global->rope;
  const int pairs = global->head_dim / 2;
  const int rotated = rope.kind == RopeKind::kProportional
                          ? static_cast<int>(rope.rotated_fraction * global->head_dim / 2)
                          : pairs;
  std::vector<float> divisors;
  for (int i = 0; i < pairs; ++i) {
    const double plain = std::pow(rope.theta, -2.0 * i / global->head_dim);
    const double divisor = i >= rotated                     ? 1e30
                           : rope.kind == RopeKind::kLlama3 ? llama3_divisor(rope, plain)
                                                            : rope.factor;
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

}  // namespace lapidary
