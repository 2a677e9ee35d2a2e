// Does an adapter belong on a model of this shape? Every module must exist there, with its size.
//
// KV-shared layers have no k_proj and v_proj at run time and k_eq_v layers no v_proj; an adapter
// for them would silently do nothing, so it is refused.
#include <charconv>
#include <optional>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "formats/peft.h"

namespace lapidary {
namespace {

struct Shape {
  int64_t in, out;
  int64_t n_experts = 0;  // 0: one matrix
};

// What a name leads to: a shape, or the reason why there is none.
struct Place {
  std::optional<Shape> shape;
  std::string reason = "the model has no such matrix";
};

Place place_in_layer(const ModelConfig& c, int index, std::string_view part) {
  const LayerConfig& l = c.layers[index];
  const int64_t d = c.d_model, ff = l.d_ff;
  const int64_t q_width = int64_t{l.n_heads} * l.head_dim;
  const int64_t kv_width = int64_t{l.n_kv_heads} * l.head_dim;
  const bool is_k = part == "self_attn.k_proj", is_v = part == "self_attn.v_proj";
  if ((is_k || is_v) && l.kv_source != index)
    return {{},
            fmt::format("layer {} reads the K and V of layer {} and has no projection of its "
                        "own; leave it out of the targets",
                        index, l.kv_source)};
  if (is_v && l.k_eq_v)
    return {{}, fmt::format("layer {} takes V from k_proj and has no v_proj; adapt k_proj", index)};
  if (is_k || is_v) return {Shape{d, kv_width}, ""};
  if (part == "self_attn.q_proj") return {Shape{d, q_width}, ""};
  if (part == "self_attn.o_proj") return {Shape{q_width, d}, ""};
  if (part == "mlp.gate_proj" || part == "mlp.up_proj") return {Shape{d, ff}, ""};
  if (part == "mlp.down_proj") return {Shape{ff, d}, ""};
  if (part == "per_layer_input_gate" && c.ple_width > 0) return {Shape{d, c.ple_width}, ""};
  if (part == "per_layer_projection" && c.ple_width > 0) return {Shape{c.ple_width, d}, ""};
  if (part == "router.proj" && l.n_experts > 0) return {Shape{d, l.n_experts}, ""};
  if (part == kExpertsGateUp && l.n_experts > 0)
    return {Shape{d, 2 * int64_t{l.d_expert}, l.n_experts}, ""};
  if (part == kExpertsDown && l.n_experts > 0) return {Shape{l.d_expert, d, l.n_experts}, ""};
  return {};
}

Place place_of(const ModelConfig& c, std::string_view module) {
  constexpr std::string_view kLayers = "model.layers.";
  if (module == "model.per_layer_model_projection" && c.ple_width > 0)
    return {Shape{c.d_model, int64_t{c.n_layers()} * c.ple_width}, ""};
  if (!module.starts_with(kLayers)) return {};
  const std::string_view rest = module.substr(kLayers.size());
  int index = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), index);
  if (error != std::errc() || end == rest.data() + rest.size() || *end != '.') return {};
  // "model.layers.03.": a name that nobody would look up later.
  if (std::to_string(index) != std::string_view(rest.data(), end)) return {};
  if (index < 0 || index >= c.n_layers())
    return {{}, fmt::format("the model has {} layers", c.n_layers())};
  return place_in_layer(c, index, rest.substr(static_cast<size_t>(end + 1 - rest.data())));
}

}  // namespace

void check_fits(const PeftAdapter& adapter, const ModelConfig& config) {
  for (const LoraModule& m : adapter.modules) {
    const Place place = place_of(config, m.module);
    if (!place.shape)
      fail(ErrorCode::kBadData, "adapter module {}: {}; it was made for another base",
           excerpt(m.module), place.reason);
    if (m.n_experts != place.shape->n_experts)
      fail(ErrorCode::kBadData,
           "adapter module {}: {} experts, the model has {}; it was made for another base",
           m.module, m.n_experts, place.shape->n_experts);
    if (m.in != place.shape->in || m.out != place.shape->out)
      fail(
          ErrorCode::kBadData,
          "adapter module {}: maps {} inputs to {} outputs, the model's maps {} to {}; it was made "
          "for another base",
          m.module, m.in, m.out, place.shape->in, place.shape->out);
  }
}

}  // namespace lapidary
