// The map of names, one table for all families.
#include "formats/gguf_names.h"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <string_view>

#include "formats/error.h"

namespace lapidary {
namespace {

struct Entry {
  std::string_view name;
  bool matrix;
};
using Table = std::map<std::string_view, Entry>;

const Table kModel{
    {"model.embed_tokens.weight", {"token_embd.weight", true}},
    {"model.embed_tokens_per_layer.weight", {"per_layer_token_embd.weight", true}},
    {"model.per_layer_model_projection.weight", {"per_layer_model_proj.weight", true}},
    {"model.per_layer_projection_norm.weight", {"per_layer_proj_norm.weight", false}},
    {"model.norm.weight", {"output_norm.weight", false}},
    {"lm_head.weight", {"output.weight", true}},
};

// After "model.layers.N." and "blk.N.".
const Table kLayer{
    {"input_layernorm.weight", {"attn_norm.weight", false}},
    {"self_attn.q_proj.weight", {"attn_q.weight", true}},
    {"self_attn.k_proj.weight", {"attn_k.weight", true}},
    {"self_attn.v_proj.weight", {"attn_v.weight", true}},
    {"self_attn.o_proj.weight", {"attn_output.weight", true}},
    {"self_attn.q_norm.weight", {"attn_q_norm.weight", false}},
    {"self_attn.k_norm.weight", {"attn_k_norm.weight", false}},
    {"mlp.gate_proj.weight", {"ffn_gate.weight", true}},
    {"mlp.up_proj.weight", {"ffn_up.weight", true}},
    {"mlp.down_proj.weight", {"ffn_down.weight", true}},
    {"layer_scalar", {"layer_output_scale.weight", false}},
    {"per_layer_input_gate.weight", {"inp_gate.weight", true}},
    {"per_layer_projection.weight", {"proj.weight", true}},
    {"post_per_layer_input_norm.weight", {"post_norm.weight", false}},
    {"router.proj.weight", {"ffn_gate_inp.weight", false}},  // llama.cpp keeps routers in float32
    {"router.scale", {"ffn_gate_inp.scale", false}},
    {"router.per_expert_scale", {"ffn_down_exps.scale", false}},
    {"experts.gate_up_proj", {"ffn_gate_up_exps.weight", true}},
    {"experts.down_proj", {"ffn_down_exps.weight", true}},
};

// Norms around the two branches: four where outputs are normed too, else two.
const Table kSandwichNorms{
    {"post_attention_layernorm.weight", {"post_attention_norm.weight", false}},
    {"pre_feedforward_layernorm.weight", {"ffn_norm.weight", false}},
    {"post_feedforward_layernorm.weight", {"post_ffw_norm.weight", false}},
    {"post_feedforward_layernorm_1.weight", {"post_ffw_norm_1.weight", false}},
    {"post_feedforward_layernorm_2.weight", {"post_ffw_norm_2.weight", false}},
    {"pre_feedforward_layernorm_2.weight", {"pre_ffw_norm_2.weight", false}},
};
const Table kPreNorms{{"post_attention_layernorm.weight", {"ffn_norm.weight", false}}};

const Entry* find(const Table& table, std::string_view name) {
  const auto found = table.find(name);
  return found == table.end() ? nullptr : &found->second;
}

// Splits "model.layers.7.rest" into 7 and "rest"; -1 when it is not of that form.
int split_layer(std::string_view name, std::string_view* rest) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return -1;
  int layer = -1;
  const auto [end, error] =
      std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return -1;
  *rest = name.substr(static_cast<size_t>(end + 1 - name.data()));
  return layer;
}

}  // namespace

GgufPlace gguf_place(const ModelConfig& config, const std::string& name) {
  GgufPlace place;
  std::string_view rest;
  const int layer = split_layer(name, &rest);
  const Entry* entry = layer < 0 ? find(kModel, name) : find(kLayer, rest);
  if (layer >= 0 && !entry) entry = find(config.sandwich_norms ? kSandwichNorms : kPreNorms, rest);
  if (!entry || layer >= config.n_layers())
    fail(ErrorCode::kBadData, "tensor {} has no place in a GGUF file of a {} model", name,
         config.family);
  place.name = layer < 0 ? std::string(entry->name) : fmt::format("blk.{}.{}", layer, entry->name);
  place.matrix = entry->matrix;
  place.add_one = config.norm_unit_offset && name.ends_with("norm.weight");
  if (config.family == "llama" &&
      (rest == "self_attn.q_proj.weight" || rest == "self_attn.k_proj.weight"))
    place.interleaved_head = config.layers[static_cast<size_t>(layer)].head_dim;
  return place;
}

int64_t source_row(const GgufPlace& place, int64_t row) {
  if (place.interleaved_head == 0) return row;
  const int64_t d = place.interleaved_head, in_head = row % d;
  return row - in_head + in_head % 2 * (d / 2) + in_head / 2;
}

int64_t gguf_row(const GgufPlace& place, int64_t row) {
  if (place.interleaved_head == 0) return row;
  const int64_t d = place.interleaved_head, in_head = row % d;
  return row - in_head + in_head % (d / 2) * 2 + in_head / (d / 2);
}

}  // namespace lapidary
