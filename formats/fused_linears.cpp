// One table of names.
#include "formats/fused_linears.h"

#include <algorithm>
#include <array>

namespace lapidary {
namespace {

struct Linear {
  std::string_view name;     // after "model.layers.N."
  std::string_view partner;  // modules with the same word are fused
};
constexpr std::array kLinears = {
    Linear{"self_attn.q_proj.weight", "qkv"},     Linear{"self_attn.k_proj.weight", "qkv"},
    Linear{"self_attn.v_proj.weight", "qkv"},     Linear{"self_attn.o_proj.weight", "o"},
    Linear{"mlp.gate_proj.weight", "gate_up"},    Linear{"mlp.up_proj.weight", "gate_up"},
    Linear{"mlp.down_proj.weight", "down"},       Linear{"per_layer_input_gate.weight", "gate"},
    Linear{"per_layer_projection.weight", "ple"}, Linear{"experts.gate_up_proj", "experts"},
    Linear{"experts.down_proj", "experts"}};

}  // namespace

std::string fused_linears(std::string_view tensor) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!tensor.starts_with(kLayers)) return {};
  const size_t dot = tensor.find('.', kLayers.size());
  if (dot == std::string_view::npos) return {};
  const std::string_view layer = tensor.substr(0, dot + 1), name = tensor.substr(dot + 1);
  const auto found = std::find_if(kLinears.begin(), kLinears.end(),
                                  [&](const Linear& linear) { return linear.name == name; });
  return found == kLinears.end() ? std::string() : std::string(layer).append(found->partner);
}

}  // namespace lapidary
