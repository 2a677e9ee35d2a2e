// One table of names, and which tensors vLLM leaves alone.
#include "quantize/target.h"

#include <array>
#include <utility>

#include "formats/error.h"
#include "formats/fused_linears.h"

namespace lapidary {
namespace {

constexpr std::array kNames = {std::pair{Target::kLlamaCpp, std::string_view("llama.cpp")},
                               std::pair{Target::kVllm, std::string_view("vllm")},
                               std::pair{Target::kMlx, std::string_view("mlx")}};

}  // namespace

std::optional<Target> parse_target(std::string_view name) {
  for (const auto& [target, its_name] : kNames)
    if (name == its_name) return target;
  return std::nullopt;
}

std::string_view target_name(Target target) {
  for (const auto& [its_target, name] : kNames)
    if (target == its_target) return name;
  return "lapidary";
}

Code held_code(Target target, Code wanted) {
  if (target == Target::kLapidary || traits(wanted).is_float) return wanted;
  switch (wanted) {
    case Code::kW4:
    case Code::kW4x:
      return Code::kW4x;
    case Code::kW8:
    case Code::kW8x:
      return Code::kW8x;
    default:
      fail(ErrorCode::kUsage,
           "{} cannot hold {}: export would round it again; use w4x, w8x, bf16 or f16",
           target_name(target), code_name(wanted));
  }
}

Code held_code(Target target, const SourceTensor& tensor, Code wanted) {
  if (target == Target::kLapidary) return wanted;
  const Code held = held_code(target, wanted);
  if (traits(held).is_float || !traits(tensor.code).is_float) return held;
  const bool stays =
      tensor.k() % kGroupK != 0 || (target == Target::kVllm && fused_linears(tensor.name).empty());
  return stays ? tensor.code : held;
}

std::vector<Code> held_codes(Target target) {
  LAPIDARY_CHECK(target != Target::kLapidary);
  return {Code::kW4x, Code::kW8x};
}

}  // namespace lapidary
