// One layer after another, as the description says; the mixture of experts is in twin_experts.cpp.
#include "finetune/model_twin.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "finetune/elementwise.h"
#include "finetune/packed_linear.h"
#include "finetune/recompute.h"
#include "formats/error.h"

namespace lapidary {
namespace {

at::Tensor to_tensor(const std::vector<float>& values) {
  if (values.empty()) return {};
  at::Tensor t = at::empty({static_cast<int64_t>(values.size())}, at::kFloat);
  std::memcpy(t.data_ptr<float>(), values.data(), values.size() * sizeof(float));
  return t;
}

// Position within its example of each picked token of the row; none picked: of all.
std::vector<int64_t> positions_of(const TokenRow& row, const std::vector<int64_t>& picked) {
  std::vector<int64_t> positions, chosen;
  for (const int64_t length : row.lengths)
    for (int64_t t = 0; t < length; ++t) positions.push_back(t);
  if (picked.empty()) return positions;
  for (const int64_t t : picked) chosen.push_back(positions[static_cast<size_t>(t)]);
  return chosen;
}

at::Tensor to_tensor(const std::vector<int64_t>& values) {
  return at::tensor(at::ArrayRef<int64_t>(values), at::kLong);
}

}  // namespace

ModelTwin::ModelTwin(std::shared_ptr<const Model> model, int n_threads, Precision precision)
    : model_(std::move(model)),
      weights_(n_threads, precision),
      head_{weights_, model_->head, model_->config().logit_softcap} {
  const ModelConfig& c = config();
  const auto norm_weight = [&](const std::vector<float>& values) {
    const at::Tensor w = to_tensor(values);
    return c.norm_unit_offset && w.defined() ? w + 1 : w;
  };
  final_norm_ = norm_weight(model_->final_norm);
  ple_projection_norm_ = norm_weight(model_->ple_projection_norm);
  layers_.resize(model_->layers.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerWeights& w = model_->layers[i];
    TwinLayer& t = layers_[i];
    t.input_norm = norm_weight(w.input_norm);
    t.post_attention_norm = norm_weight(w.post_attention_norm);
    t.pre_ff_norm = norm_weight(w.pre_ff_norm);
    t.post_ff_norm = norm_weight(w.post_ff_norm);
    t.q_norm = norm_weight(w.q_norm);
    t.k_norm = norm_weight(w.k_norm);
    t.post_ff_norm_1 = norm_weight(w.post_ff_norm_1);
    t.pre_ff_norm_2 = norm_weight(w.pre_ff_norm_2);
    t.post_ff_norm_2 = norm_weight(w.post_ff_norm_2);
    t.post_ple_norm = norm_weight(w.post_ple_norm);
    t.router_scale = to_tensor(w.router_scale);
    t.expert_scale = to_tensor(w.per_expert_scale);
    const auto source = static_cast<size_t>(c.layers[i].kv_source);
    if (source != i) layers_[source].feeds_later = true;
    if (source == i) narrow_ = static_cast<int>(i);

    const std::string prefix = fmt::format("model.layers.{}.", i);
    const auto add = [&](TwinLinear& linear, const MatrixView& matrix, const char* name) {
      if (matrix.rows == 0) return;
      linear.matrix = &matrix;
      adaptable_.push_back({prefix + name, &matrix});
    };
    add(t.q, w.q, "self_attn.q_proj");
    add(t.k, w.k, "self_attn.k_proj");
    add(t.v, w.v, "self_attn.v_proj");
    add(t.o, w.o, "self_attn.o_proj");
    add(t.gate, w.gate, "mlp.gate_proj");
    add(t.up, w.up, "mlp.up_proj");
    add(t.down, w.down, "mlp.down_proj");
    add(t.router, w.router, "router.proj");
    for (const auto& [stack, name] :
         {std::pair(&w.expert_gate_up, kExpertsGateUp), std::pair(&w.expert_down, kExpertsDown)})
      if (!stack->empty()) adaptable_.push_back({prefix + name, &stack->front(), stack});
    add(t.ple_gate, w.ple_gate, "per_layer_input_gate");
    add(t.ple_projection, w.ple_projection, "per_layer_projection");
  }
}

void ModelTwin::set_adapter(const LoraSet* lora) {
  lora_ = lora;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string prefix = fmt::format("model.layers.{}.", i);
    layers_[i].expert_gate_up = lora ? lora->find(prefix + kExpertsGateUp) : nullptr;
    layers_[i].expert_down = lora ? lora->find(prefix + kExpertsDown) : nullptr;
  }
  for (TwinLayer& t : layers_)
    for (TwinLinear* linear : {&t.q, &t.k, &t.v, &t.o, &t.gate, &t.up, &t.down, &t.router,
                               &t.ple_gate, &t.ple_projection}) {
      linear->lora = nullptr;
      if (!lora || !linear->matrix) continue;
      const auto m = std::find_if(
          adaptable_.begin(), adaptable_.end(),
          [&](const AdaptableMatrix& candidate) { return candidate.matrix == linear->matrix; });
      linear->lora = lora->find(m->module);
    }
}

at::Tensor ModelTwin::linear(const TwinLinear& linear, const at::Tensor& x, KeptOutput* kept) {
  return linear.lora ? adapted_linear(weights_, linear.lora->parts.front(), x, kept)
                     : packed_linear(weights_, *linear.matrix, x, kept);
}

at::Tensor ModelTwin::gated(const at::Tensor& gate, const at::Tensor& up) {
  return gated_activation(weights_, config().activation, gate, up);
}

at::Tensor ModelTwin::norm(const at::Tensor& x, const at::Tensor& weight) {
  return rms_norm(weights_, x, weight, config().norm_eps);
}

at::Tensor ModelTwin::mlp(const TwinLayer& layer, const at::Tensor& x, KeptLayer& kept) {
  const at::Tensor gate = linear(layer.gate, x, kept.find(LayerPart::kGate));
  const at::Tensor up = linear(layer.up, x, kept.find(LayerPart::kUp));
  return linear(layer.down, gated(gate, up), kept.find(LayerPart::kDown));
}

ModelTwin::RowContext ModelTwin::make_context(const TokenRow& row,
                                              const std::vector<int64_t>& picked,
                                              const at::Tensor& embedded) {
  RowContext context;
  if (!picked.empty()) context.picked = to_tensor(picked);
  const std::vector<int64_t> all_positions = positions_of(row, {});
  const std::vector<int64_t> picked_positions = positions_of(row, picked);
  std::map<std::pair<int, bool>, std::shared_ptr<const AttentionPlan>> plans;
  // Layers with the same angles share a table.
  const auto find_rope = [&](const auto& made, size_t i, const std::vector<int64_t>& positions) {
    const LayerConfig& layer = config().layers[i];
    for (size_t j = 0; j < i; ++j)
      if (config().layers[j].rope == layer.rope && config().layers[j].head_dim == layer.head_dim &&
          made[j]->cos.size(0) == static_cast<int64_t>(positions.size()))
        return made[j];
    return std::shared_ptr<const RopeTables>(
        std::make_shared<RopeTables>(rope_tables(layer.rope, layer.head_dim, positions)));
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerConfig& layer = config().layers[i];
    const int window = layer.attention == AttentionKind::kSliding ? layer.window : 0;
    const bool narrowed = !picked.empty() && static_cast<int>(i) >= narrow_;
    auto& plan = plans[{window, narrowed}];
    if (!plan)
      plan =
          plan_attention(row.lengths, window,
                         narrowed ? std::span<const int64_t>(picked) : std::span<const int64_t>());
    context.plans.push_back(plan);
    context.ropes.push_back(find_rope(context.ropes, i, all_positions));
    context.query_ropes.push_back(narrowed ? find_rope(context.query_ropes, i, picked_positions)
                                           : context.ropes.back());
  }
  if (config().ple_width > 0) context.ple = ple_inputs(row, embedded);
  return context;
}

at::Tensor ModelTwin::feed_forward(int index, const at::Tensor& residual, KeptLayer& kept) {
  const TwinLayer& t = layers_[static_cast<size_t>(index)];
  at::Tensor out = mlp(t, norm(residual, t.pre_ff_norm), kept);
  if (t.router.matrix) {
    out = norm(out, t.post_ff_norm_1) +
          norm(experts(index, residual, norm(residual, t.pre_ff_norm_2)), t.post_ff_norm_2);
  }
  return config().sandwich_norms ? norm(out, t.post_ff_norm) : out;
}

std::vector<at::Tensor> ModelTwin::layer(int index, const RowContext& context,
                                         const std::vector<at::Tensor>& inputs, KeptLayer& kept) {
  const auto i = static_cast<size_t>(index);
  const ModelConfig& c = config();
  const LayerConfig& shape = c.layers[i];
  const TwinLayer& t = layers_[i];
  const auto heads = [&](const at::Tensor& x, int n) {
    return x.view({x.size(0), n, shape.head_dim});
  };
  at::Tensor h = inputs[0];
  at::Tensor x = norm(h, t.input_norm);
  at::Tensor k, v;
  if (c.owns_kv(index)) {
    k = heads(linear(t.k, x, kept.find(LayerPart::kK)), shape.n_kv_heads);
    v = shape.k_eq_v ? k : heads(linear(t.v, x, kept.find(LayerPart::kV)), shape.n_kv_heads);
    if (c.qk_norm) k = norm(k, t.k_norm);
    k = apply_rope(k, *context.ropes[i]);
    if (c.v_norm) v = norm(v, {});
  } else {
    k = inputs[1];
    v = inputs[2];
  }
  at::Tensor ple;
  if (context.ple.defined()) ple = context.ple.select(1, index);
  if (context.picked.defined() && index >= narrow_) {
    if (index == narrow_) {
      h = h.index_select(0, context.picked);
      x = x.index_select(0, context.picked);
    }
    if (ple.defined()) ple = ple.index_select(0, context.picked);
  }

  at::Tensor q = heads(linear(t.q, x, kept.find(LayerPart::kQ)), shape.n_heads);
  if (c.qk_norm) q = norm(q, t.q_norm);
  q = apply_rope(q, *context.query_ropes[i]);
  const at::Tensor attended = attention(weights_, context.plans[i], q, k, v, c.attention_scale,
                                        kept.find(LayerPart::kAttention));
  at::Tensor out = linear(t.o, attended.reshape({h.size(0), -1}), kept.find(LayerPart::kO));
  if (c.sandwich_norms) out = norm(out, t.post_attention_norm);
  h = h + out;
  h = h + feed_forward(index, h, kept);
  if (ple.defined()) {
    const at::Tensor gate = linear(t.ple_gate, h, kept.find(LayerPart::kPleGate));
    out = linear(t.ple_projection, gated(gate, ple), kept.find(LayerPart::kPleProjection));
    h = h + norm(out, t.post_ple_norm);
  }
  if (c.layer_scalar) h = h * model_->layers[i].scalar;
  if (t.feeds_later) return {h, k, v};
  return {h};
}

at::Tensor ModelTwin::hidden(const TokenRow& row, const std::vector<int64_t>& picked,
                             bool checkpoint_activations, const TwinTap& tap) {
  LAPIDARY_CHECK(!row.ids.empty());
  at::Tensor h = embed(row);
  if (tap) tap(0, h);
  const auto context = std::make_shared<RowContext>(make_context(row, picked, h));
  const auto n_tokens = static_cast<int64_t>(row.ids.size());
  KeptPlan plan;
  if (checkpoint_activations)
    plan = plan_kept(config(), n_tokens,
                     picked.empty() ? n_tokens : static_cast<int64_t>(picked.size()),
                     element_bytes(weights_.precision()), kept_bytes_);
  std::vector<std::vector<at::Tensor>> kv(layers_.size());  // K and V of layers that feed others
  for (int i = 0; i < config().n_layers(); ++i) {
    std::vector<at::Tensor> inputs{h};
    if (!config().owns_kv(i)) {
      const auto& source =
          kv[static_cast<size_t>(config().layers[static_cast<size_t>(i)].kv_source)];
      inputs.insert(inputs.end(), source.begin(), source.end());
    }
    const auto kept = std::make_shared<KeptLayer>(
        checkpoint_activations ? plan.parts[static_cast<size_t>(i)] : 0);
    const auto layer_of = [this, i, context, kept](const std::vector<at::Tensor>& in) {
      return layer(i, *context, in, *kept);
    };
    std::vector<at::Tensor> out =
        checkpoint_activations
            ? recompute(layer_of, inputs, weights_.precision() == Precision::kBFloat16)
            : layer_of(inputs);
    h = out[0];
    if (out.size() == 3) kv[static_cast<size_t>(i)] = {out[1], out[2]};
    if (tap) tap(i + 1, h);
  }
  h = norm(h, final_norm_);
  if (tap) tap(config().n_layers() + 1, h);
  return h;
}

at::Tensor ModelTwin::logits(const at::Tensor& hidden) { return head_logits(head_, hidden); }

at::Tensor ModelTwin::loss(const TokenRow& row, const std::vector<int64_t>& tokens,
                           const at::Tensor& hidden, double weight) {
  std::vector<int64_t> targets, learned;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (row.is_learned(tokens[i] + 1)) {
      targets.push_back(row.labels[static_cast<size_t>(tokens[i] + 1)]);
      learned.push_back(static_cast<int64_t>(i));
    }
  if (targets.empty()) return {};
  const bool all = learned.size() == tokens.size();
  return head_cross_entropy(head_, all ? hidden : hidden.index_select(0, to_tensor(learned)),
                            to_tensor(targets), weight);
}

}  // namespace lapidary
