// The mixture of experts of the twin, as in runtime/moe.cpp. Experts are frozen; gradients pass
// through them and through the router's weights.
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

  at::Tensor out = at::zeros_like(x);
  for (int64_t e = 0; e < shape.n_experts; ++e) {
    const at::Tensor places = chosen.eq(e).nonzero();  // [n, 2]: token, rank among its experts
    if (places.size(0) == 0) continue;
    const at::Tensor token = places.select(1, 0);
    const at::Tensor weight =
        weights.flatten().index_select(0, token * shape.n_experts_used + places.select(1, 1));
    const auto expert = static_cast<size_t>(e);
    const at::Tensor gate_up =
        packed_linear(weights_, w.expert_gate_up[expert], x.index_select(0, token));
    const at::Tensor inner = activate(gate_up.narrow(1, 0, shape.d_expert)) *
                             gate_up.narrow(1, shape.d_expert, shape.d_expert);
    const at::Tensor y = packed_linear(weights_, w.expert_down[expert], inner);
    out = out.index_add(0, token, y * weight.unsqueeze(1));
  }
  return out;
}

}  // namespace lapidary
