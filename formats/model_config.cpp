// ModelConfig as JSON and back: one line per field each way. Fields at their default are left out
// where that keeps a layer readable. A field that we do not know is an Error, since a later version
// may have added it to change the arithmetic. Ranges are checked in model_config_validate.cpp.
#include "formats/model_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;                 // read: look-ups stay fast for hostile objects
using OrderedJson = nlohmann::ordered_json;  // written: the order of the struct

constexpr int kMaxLayers = 1024;
constexpr size_t kMaxJsonBytes = size_t{16} << 20;
constexpr int kMaxJsonDepth = 16;

constexpr const char* kAttentionNames[] = {"sliding", "global"};
constexpr const char* kRopeNames[] = {"default", "proportional", "llama3"};
constexpr const char* kActivationNames[] = {"gelu_tanh", "silu"};

[[noreturn]] void bad(const std::string& field, const std::string& found,
                      const std::string& expected) {
  fail(ErrorCode::kBadData, "model config: {} is {}, expected {}", field, found, expected);
}

// Typed access to one JSON object; a missing field keeps the default. Fields that nobody asked for
// by the end are unknown ones.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) bad(where_, object.type_name(), "an object");
  }

  void read(const char* key, bool& out) {
    if (const Json* v = find(key)) {
      if (!v->is_boolean()) bad(name(key), excerpt(v->dump()), "true or false");
      out = v->get<bool>();
    }
  }
  template <class Int>
  requires std::is_integral_v<Int>
  void read(const char* key, Int& out) {
    if (const Json* v = find(key)) out = integer<Int>(*v, name(key));
  }
  template <class Float>
  requires std::is_floating_point_v<Float>
  void read(const char* key, Float& out) {
    if (const Json* v = find(key)) {
      if (!v->is_number()) bad(name(key), excerpt(v->dump()), "a number");
      out = v->get<Float>();
    }
  }
  void read(const char* key, std::string& out) {
    if (const Json* v = find(key)) {
      if (!v->is_string()) bad(name(key), excerpt(v->dump()), "a string");
      out = v->get<std::string>();
    }
  }
  template <class Enum, size_t N>
  void read(const char* key, const char* const (&names)[N], Enum& out) {
    if (!object_.contains(key)) return;
    std::string text;
    read(key, text);
    for (size_t i = 0; i < N; ++i)
      if (text == names[i]) {
        out = static_cast<Enum>(i);
        return;
      }
    bad(name(key), excerpt(text), fmt::format("one of {}", fmt::join(names, ", ")));
  }
  const Json* find(const char* key) {
    const auto it = object_.find(key);
    if (it == object_.end()) return nullptr;
    asked_.push_back(key);
    return &*it;
  }
  void refuse_others() const {
    for (const auto& [key, value] : object_.items())
      if (std::find(asked_.begin(), asked_.end(), key) == asked_.end())
        fail(ErrorCode::kBadData,
             "model config: {}.{} is not known; the file was made by a later version, use that one",
             where_, excerpt(key));
  }
  std::string name(const char* key) const { return where_ + "." + key; }

  template <class Int>
  static Int integer(const Json& v, const std::string& field) {
    if (!v.is_number_integer()) bad(field, excerpt(v.dump()), "an integer");
    if (v.is_number_unsigned() && v.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      bad(field, excerpt(v.dump()), "a smaller number");
    const int64_t wide = v.get<int64_t>();
    if (static_cast<int64_t>(static_cast<Int>(wide)) != wide)
      bad(field, excerpt(v.dump()), "a smaller number");
    return static_cast<Int>(wide);
  }

 private:
  const Json& object_;
  std::string where_;
  std::vector<std::string_view> asked_;
};

OrderedJson rope_json(const RopeConfig& r) {
  OrderedJson json{{"kind", kRopeNames[static_cast<int>(r.kind)]}, {"theta", r.theta}};
  if (r.rotated_fraction != 1.0) json["rotated_fraction"] = r.rotated_fraction;
  if (r.factor != 1.0) json["factor"] = r.factor;
  if (r.kind == RopeKind::kLlama3) {
    json["low_freq_factor"] = r.low_freq_factor;
    json["high_freq_factor"] = r.high_freq_factor;
    json["original_context"] = r.original_context;
  }
  return json;
}

OrderedJson layer_json(const LayerConfig& l) {
  OrderedJson json{{"attention", kAttentionNames[static_cast<int>(l.attention)]}};
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

OrderedJson assistant_json(const AssistantConfig& a) {
  OrderedJson json{{"target_width", a.target_width}};
  if (a.n_centroids) {
    json["n_centroids"] = a.n_centroids;
    json["n_centroids_used"] = a.n_centroids_used;
  }
  return json;
}

RopeConfig rope_from(const Json& json, const std::string& where) {
  RopeConfig r;
  Fields f(json, where);
  f.read("kind", kRopeNames, r.kind);
  f.read("theta", r.theta);
  f.read("rotated_fraction", r.rotated_fraction);
  f.read("factor", r.factor);
  f.read("low_freq_factor", r.low_freq_factor);
  f.read("high_freq_factor", r.high_freq_factor);
  f.read("original_context", r.original_context);
  f.refuse_others();
  return r;
}

AssistantConfig assistant_from(const Json& json) {
  AssistantConfig a;
  Fields f(json, "assistant");
  f.read("target_width", a.target_width);
  f.read("n_centroids", a.n_centroids);
  f.read("n_centroids_used", a.n_centroids_used);
  f.refuse_others();
  return a;
}

LayerConfig layer_from(const Json& json, const std::string& where) {
  LayerConfig l;
  Fields f(json, where);
  f.read("attention", kAttentionNames, l.attention);
  f.read("window", l.window);
  f.read("head_dim", l.head_dim);
  f.read("n_heads", l.n_heads);
  f.read("n_kv_heads", l.n_kv_heads);
  if (const Json* rope = f.find("rope")) l.rope = rope_from(*rope, where + ".rope");
  if (!f.find("kv_source")) bad(where + ".kv_source", "missing", "a layer's index");
  f.read("kv_source", l.kv_source);
  f.read("k_eq_v", l.k_eq_v);
  f.read("d_ff", l.d_ff);
  f.read("n_experts", l.n_experts);
  f.read("n_experts_used", l.n_experts_used);
  f.read("d_expert", l.d_expert);
  f.refuse_others();
  return l;
}

}  // namespace

std::string to_json(const ModelConfig& c) {
  OrderedJson json{{"family", c.family},
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
                   {"layers", OrderedJson::array()}};
  for (const LayerConfig& layer : c.layers) json["layers"].push_back(layer_json(layer));
  if (c.is_assistant()) json["assistant"] = assistant_json(c.assistant);
  return json.dump();
}

ModelConfig model_config_from_json(std::string_view text) {
  if (text.size() > kMaxJsonBytes) fail(ErrorCode::kBadData, "model config: over 16 MB of JSON");
  guard_json(text, "model config", kMaxJsonDepth);
  const Json json = Json::parse(text);
  ModelConfig c;
  Fields f(json, "config");
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
    if (!ids->is_array()) bad("config.eos_ids", excerpt(ids->dump()), "a list");
    for (const Json& id : *ids) c.eos_ids.push_back(Fields::integer<int32_t>(id, "config.eos_ids"));
  }
  if (const Json* layers = f.find("layers")) {
    if (!layers->is_array() || layers->size() > static_cast<size_t>(kMaxLayers))
      bad("config.layers", layers->type_name(), "a list of at most 1024 layers");
    for (const Json& layer : *layers)
      c.layers.push_back(layer_from(layer, fmt::format("layer {}", c.layers.size())));
  }
  if (const Json* assistant = f.find("assistant")) c.assistant = assistant_from(*assistant);
  f.refuse_others();
  validate(c);
  return c;
}

}  // namespace lapidary
