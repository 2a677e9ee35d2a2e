// The linear layers that vLLM quantizes, and which of them it stores as one matrix.
#pragma once

#include <string>
#include <string_view>

namespace lapidary {

// The same text for tensors that vLLM fuses, so that they must have one scheme: q, k, v and gate,
// up of a layer, and all experts of one ("model.layers.3.qkv"). Empty for what it keeps as floats:
// embeddings, head, router, norms, per_layer_model_projection. Source: vLLM's
// packed_modules_mapping of Gemma, Llama and Qwen3, and its FusedMoE.
std::string fused_linears(std::string_view tensor);

}  // namespace lapidary
