// ModelConfig as JSON and back. Every number is checked against the range that the code relies on,
// so that nothing later has to doubt a config, whatever file it came from.
#include "formats/model_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxWidth = 1 << 24;  // of any dimension: keeps products of two below 2^48
constexpr int kMaxLayers = 1024;
constexpr int kMaxHeadDim = 1024;
constexpr size_t kMaxJsonBytes = size_t{16} << 20;
constexpr int kMaxJsonDepth = 16;

constexpr const char* kAttentionNames[] = {"sliding", "global"};
constexpr const char* kRopeNames[] = {"default", "proportional", "llama3"};
constexpr const char* kActivationNames[] = {"gelu_tanh", "silu"};

[[noreturn]] void bad(const std::string& field, const std::string& found,
                      const std::string& expected) {
  fail(ErrorCode::kBadData, "model config: {} is {}, expected {}", field, found, expected);
}

// Typed access to one JSON object; a missing field keeps the default.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) bad(where_, object.type_name(), "an object");
  }

  void read(const char* key, bool& out) const {
    if (const Json* v = find(key)) {
      if (!v->is_boolean()) bad(name(key), v->dump(), "true or false");
      out = v->get<bool>();
    }
  }
  template <class Int>
  requires std::is_integral_v<Int>
  void read(const char* key, Int& out) const {
    if (const Json* v = find(key)) out = integer<Int>(*v, name(key));
  }
  template <class Float>
  requires std::is_floating_point_v<Float>
  void read(const char* key, Float& out) const {
    if (const Json* v = find(key)) {
      if (!v->is_number()) bad(name(key), v->dump(), "a number");
      out = v->get<Float>();
    }
  }
  void read(const char* key, std::string& out) const {
    if (const Json* v = find(key)) {
      if (!v->is_string()) bad(name(key), v->dump(), "a string");
      out = v->get<std::string>();
    }
  }
  template <class Enum, size_t N>
  void read(const char* key, const char* const (&names)[N], Enum& out) const {
    std::string text;
    read(key, text);
    if (text.empty()) return;
    for (size_t i = 0; i < N; ++i)
      if (text == names[i]) {
        out = static_cast<Enum>(i);
        return;
      }
    bad(name(key), text, std::string("one of ") + names[0] + ", " + names[N - 1] + ", ...");
  }
  const Json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }
  std::string name(const char* key) const { return where_ + "." + key; }

  template <class Int>
  static Int integer(const Json& v, const std::string& field) {
    if (!v.is_number_integer()) bad(field, v.dump(), "an integer");
    if (v.is_number_unsigned() && v.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      bad(field, v.dump(), "a smaller number");
    const int64_t wide = v.get<int64_t>();
    if (static_cast<int64_t>(static_cast<Int>(wide)) != wide)
      bad(field, v.dump(), "a smaller number");
    return static_cast<Int>(wide);
  }

 private:
  const Json& object_;
  std::string where_;
};

Json rope_json(const RopeConfig& r) {
  Json json{{"kind", kRopeNames[static_cast<int>(r.kind)]}, {"theta", r.theta}};
  if (r.rotated_fraction != 1.0) json["rotated_fraction"] = r.rotated_fraction;
  if (r.factor != 1.0) json["factor"] = r.factor;
  if (r.kind == RopeKind::kLlama3) {
    json["low_freq_factor"] = r.low_freq_factor;
    json["high_freq_factor"] = r.high_freq_factor;
    json["original_context"] = r.original_context;
  }
  return json;
}

Json layer_json(const LayerConfig& l) {
  Json json{{"attention", kAttentionNames[static_cast<int>(l.attention)]}};
  if (l.window) json["window"] = l.window;
  json["head_dim"] = l.head_dim;
  json["n_heads"] = l.n_heads;
  json["n_kv_heads"] = l.n_kv_heads;
  json["rope"] = rope_json(l.rope);
  json["kv_source"] = l.kv_source;
  if (l.k_eq_v) json["k_eq_v"] = true;
  json["d_ff"] = l.d_ff;
  if (l.n_experts) {
    json["n_experts"] = l.n_experts;
    json["n_experts_used"] = l.n_experts_used;
    json["d_expert"] = l.d_expert;
  }
  return json;
}

RopeConfig rope_from(const Json& json, const std::string& where) {
  RopeConfig r;
  const Fields f(json, where);
  f.read("kind", kRopeNames, r.kind);
  f.read("theta", r.theta);
  f.read("rotated_fraction", r.rotated_fraction);
  f.read("factor", r.factor);
  f.read("low_freq_factor", r.low_freq_factor);
  f.read("high_freq_factor", r.high_freq_factor);
  f.read("original_context", r.original_context);
  return r;
}

LayerConfig layer_from(const Json& json, const std::string& where) {
  LayerConfig l;
  const Fields f(json, where);
  f.read("attention", kAttentionNames, l.attention);
  f.read("window", l.window);
  f.read("head_dim", l.head_dim);
  f.read("n_heads", l.n_heads);
  f.read("n_kv_heads", l.n_kv_heads);
  if (const Json* rope = f.find("rope")) l.rope = rope_from(*rope, where + ".rope");
  f.read("kv_source", l.kv_source);
  f.read("k_eq_v", l.k_eq_v);
  f.read("d_ff", l.d_ff);
  f.read("n_experts", l.n_experts);
  f.read("n_experts_used", l.n_experts_used);
  f.read("d_expert", l.d_expert);
  return l;
}

void require(bool claim, const std::string& field, const std::string& found,
             const std::string& expected) {
  if (!claim) bad(field, found, expected);
}

void require_range(int64_t value, int64_t low, int64_t high, const std::string& field) {
  require(value >= low && value <= high, field, std::to_string(value),
          fmt::format("{} to {}", low, high));
}

void require_positive(double value, const std::string& field) {
  require(std::isfinite(value) && value > 0, field, fmt::format("{}", value), "a positive number");
}

void validate_rope(const RopeConfig& r, const std::string& where) {
  require_positive(r.theta, where + ".theta");
  require_positive(r.factor, where + ".factor");
  require(r.rotated_fraction > 0 && r.rotated_fraction <= 1, where + ".rotated_fraction",
          fmt::format("{}", r.rotated_fraction), "above 0 and at most 1");
  if (r.kind != RopeKind::kLlama3) return;
  require_positive(r.low_freq_factor, where + ".low_freq_factor");
  require_positive(r.high_freq_factor, where + ".high_freq_factor");
  require(r.high_freq_factor > r.low_freq_factor, where + ".high_freq_factor",
          fmt::format("{}", r.high_freq_factor), "more than low_freq_factor");
  require_range(r.original_context, 1, int64_t{1} << 40, where + ".original_context");
}

void validate_layer(const ModelConfig& config, int index) {
  const LayerConfig& l = config.layers[index];
  const std::string where = fmt::format("layer {}", index);
  require_range(l.head_dim, 2, kMaxHeadDim, where + ".head_dim");
  require(l.head_dim % 2 == 0, where + ".head_dim", std::to_string(l.head_dim), "an even number");
  require_range(l.n_heads, 1, 4096, where + ".n_heads");
  require_range(l.n_kv_heads, 1, l.n_heads, where + ".n_kv_heads");
  require(l.n_heads % l.n_kv_heads == 0, where + ".n_heads", std::to_string(l.n_heads),
          fmt::format("a multiple of n_kv_heads ({})", l.n_kv_heads));
  if (l.attention == AttentionKind::kSliding)
    require_range(l.window, 1, kMaxWidth, where + ".window");
  else
    require(l.window == 0, where + ".window", std::to_string(l.window), "0 on a global layer");
  require_range(l.d_ff, 1, kMaxWidth, where + ".d_ff");
  validate_rope(l.rope, where + ".rope");

  require_range(l.kv_source, 0, index, where + ".kv_source");
  const LayerConfig& source = config.layers[l.kv_source];
  require(source.kv_source == l.kv_source, where + ".kv_source", std::to_string(l.kv_source),
          "a layer with K and V of its own");
  require(source.attention == l.attention && source.window == l.window &&
              source.head_dim == l.head_dim && source.n_kv_heads == l.n_kv_heads,
          where + ".kv_source", std::to_string(l.kv_source),
          "a layer with the same attention, window, head_dim and n_kv_heads");

  require_range(l.n_experts, 0, 65536, where + ".n_experts");
  if (l.n_experts == 0) return;
  require_range(l.n_experts_used, 1, l.n_experts, where + ".n_experts_used");
  require_range(l.d_expert, 1, kMaxWidth, where + ".d_expert");
}

// nlohmann's parser does not bound nesting; ours refuses before any recursion happens.
Json parse_bounded(std::string_view text) {
  if (text.size() > kMaxJsonBytes) fail(ErrorCode::kBadData, "model config: over 16 MB of JSON");
  const auto within_depth = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxJsonDepth) fail(ErrorCode::kBadData, "model config: JSON nested too deeply");
    return true;
  };
  try {
    return Json::parse(text, within_depth);
  } catch (const nlohmann::json::exception& e) {
    fail(ErrorCode::kBadData, "model config: {}", e.what());
  }
}

}  // namespace

void validate(const ModelConfig& c) {
  require_range(c.d_model, 1, kMaxWidth, "d_model");
  require_range(c.vocab_size, 1, kMaxWidth, "vocab_size");
  require_range(c.max_context, 1, int64_t{1} << 40, "max_context");
  require_range(c.n_layers(), 1, kMaxLayers, "number of layers");
  require_range(c.ple_width, 0, kMaxWidth / kMaxLayers, "ple_width");
  require_positive(c.norm_eps, "norm_eps");
  require_positive(c.attention_scale, "attention_scale");
  require_positive(c.embedding_scale, "embedding_scale");
  require(std::isfinite(c.logit_softcap) && c.logit_softcap >= 0, "logit_softcap",
          fmt::format("{}", c.logit_softcap), "0 or a positive number");
  require_range(c.bos_id, -1, c.vocab_size - 1, "bos_id");
  require_range(c.pad_id, -1, c.vocab_size - 1, "pad_id");
  for (const int32_t id : c.eos_ids) require_range(id, 0, c.vocab_size - 1, "eos_ids");
  for (int i = 0; i < c.n_layers(); ++i) validate_layer(c, i);
}

std::string to_json(const ModelConfig& c) {
  Json json{{"family", c.family},
            {"d_model", c.d_model},
            {"vocab_size", c.vocab_size},
            {"max_context", c.max_context},
            {"ple_width", c.ple_width},
            {"norm_eps", c.norm_eps},
            {"norm_unit_offset", c.norm_unit_offset},
            {"sandwich_norms", c.sandwich_norms},
            {"qk_norm", c.qk_norm},
            {"v_norm", c.v_norm},
            {"layer_scalar", c.layer_scalar},
            {"attention_scale", c.attention_scale},
            {"embedding_scale", c.embedding_scale},
            {"logit_softcap", c.logit_softcap},
            {"activation", kActivationNames[static_cast<int>(c.activation)]},
            {"tied_head", c.tied_head},
            {"bos_id", c.bos_id},
            {"pad_id", c.pad_id},
            {"eos_ids", c.eos_ids},
            {"layers", Json::array()}};
  for (const LayerConfig& layer : c.layers) json["layers"].push_back(layer_json(layer));
  return json.dump();
}

ModelConfig model_config_from_json(std::string_view text) {
  const Json json = parse_bounded(text);
  ModelConfig c;
  const Fields f(json, "config");
  f.read("family", c.family);
  f.read("d_model", c.d_model);
  f.read("vocab_size", c.vocab_size);
  f.read("max_context", c.max_context);
  f.read("ple_width", c.ple_width);
  f.read("norm_eps", c.norm_eps);
  f.read("norm_unit_offset", c.norm_unit_offset);
  f.read("sandwich_norms", c.sandwich_norms);
  f.read("qk_norm", c.qk_norm);
  f.read("v_norm", c.v_norm);
  f.read("layer_scalar", c.layer_scalar);
  f.read("attention_scale", c.attention_scale);
  f.read("embedding_scale", c.embedding_scale);
  f.read("logit_softcap", c.logit_softcap);
  f.read("activation", kActivationNames, c.activation);
  f.read("tied_head", c.tied_head);
  f.read("bos_id", c.bos_id);
  f.read("pad_id", c.pad_id);
  if (const Json* ids = f.find("eos_ids")) {
    if (!ids->is_array()) bad("config.eos_ids", ids->dump(), "a list");
    for (const Json& id : *ids) c.eos_ids.push_back(Fields::integer<int32_t>(id, "config.eos_ids"));
  }
  if (const Json* layers = f.find("layers")) {
    if (!layers->is_array() || layers->size() > static_cast<size_t>(kMaxLayers))
      bad("config.layers", layers->type_name(), "a list of at most 1024 layers");
    for (const Json& layer : *layers)
      c.layers.push_back(layer_from(layer, fmt::format("layer {}", c.layers.size())));
  }
  validate(c);
  return c;
}

}  // namespace lapidary
