// The mixture of experts of the twin, as in runtime/moe.cpp. Router and experts are frozen, beside
// adapters of experts; gradients pass through them and through the router's weights.
#include <ATen/ATen.h>

#include <cmath>

#include "finetune/model_twin.h"
#include "finetune/packed_linear.h"

namespace lapidary {

// residual: what the router reads; x: what the experts read. Both [n_tokens, d_model].
at::Tensor ModelTwin::experts(int index, const at::Tensor& residual, const at::Tensor& x) {
  const auto i = static_cast<size_t>(index);
  const LayerConfig& shape = config().layers[i];
  const TwinLayer& t = layers_[i];
  const LayerWeights& w = model_->layers[i];

  const at::Tensor routed = norm(residual, {}) * t.router_scale *
                            (1.0 / std::sqrt(static_cast<double>(config().d_model)));
  const at::Tensor p = linear(t.router, routed).softmax(-1);
  auto [weights, chosen] = p.topk(shape.n_experts_used, -1);
  weights = weights / weights.sum(-1, true);
  weights = weights * t.expert_scale.index_select(0, chosen.flatten()).view_as(weights);

  // Every (token, expert) pair is a row; rows of one expert lie together.
  const at::Tensor order = chosen.flatten().argsort(/*stable=*/true, /*dim=*/0);
  const at::Tensor token = order.div(shape.n_experts_used, "floor");
  const at::Tensor counts = chosen.flatten().bincount({}, shape.n_experts);
  const std::vector<at::Tensor> inputs = x.index_select(0, token).split_with_sizes(
      {counts.data_ptr<int64_t>(), static_cast<size_t>(shape.n_experts)});
  const auto expert = [&](const std::vector<MatrixView>& stack, const LoraWeights* lora, size_t e,
                          const at::Tensor& in) {
    return lora ? adapted_linear(weights_, lora->parts[e], in)
                : packed_linear(weights_, stack[e], in);
  };
  std::vector<at::Tensor> outputs;
  for (size_t e = 0; e < inputs.size(); ++e) {
    if (inputs[e].size(0) == 0) continue;
    const at::Tensor gate_up = expert(w.expert_gate_up, t.expert_gate_up, e, inputs[e]);
    const std::vector<at::Tensor> halves = gate_up.chunk(2, 1);
    outputs.push_back(expert(w.expert_down, t.expert_down, e, gated(halves[0], halves[1])));
  }
  const at::Tensor weighted =
      at::cat(outputs) * weights.flatten().index_select(0, order).unsqueeze(1);
  return at::zeros_like(x).index_add(0, token, weighted);
}

}  // namespace lapidary
