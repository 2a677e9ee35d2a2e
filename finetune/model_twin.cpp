// One layer after another, as the description says; the mixture of experts is in twin_experts.cpp.
#include "finetune/model_twin.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "finetune/merge_aware.h"
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

std::vector<int64_t> positions_of(const TokenRow& row) {
  std::vector<int64_t> positions;
  for (const int64_t length : row.lengths)
    for (int64_t t = 0; t < length; ++t) positions.push_back(t);
  return positions;
}

}  // namespace

ModelTwin::ModelTwin(std::shared_ptr<const Model> model, int n_threads)
    : model_(std::move(model)),
      weights_(n_threads),
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
    add(t.ple_gate, w.ple_gate, "per_layer_input_gate");
    add(t.ple_projection, w.ple_projection, "per_layer_projection");
  }
}

void ModelTwin::set_adapter(const LoraSet* lora) {
  lora_ = lora;
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

at::Tensor ModelTwin::linear(const TwinLinear& linear, const at::Tensor& x) {
  if (linear.lora && linear.lora->merged) return merged_linear(weights_, *linear.lora, x);
  const at::Tensor y = packed_linear(weights_, *linear.matrix, x);
  return linear.lora ? add_lora(*linear.lora, y, x) : y;
}

at::Tensor ModelTwin::activate(const at::Tensor& x) const {
  return config().activation == Activation::kGeluTanh ? at::gelu(x, "tanh") : at::silu(x);
}

at::Tensor ModelTwin::norm(const at::Tensor& x, const at::Tensor& weight) const {
  return rms_norm(x, weight.defined() ? weight : at::ones({x.size(-1)}, x.options()),
                  config().norm_eps);
}

at::Tensor ModelTwin::mlp(const TwinLayer& layer, const at::Tensor& x) {
  return linear(layer.down, activate(linear(layer.gate, x)) * linear(layer.up, x));
}

// Per-layer inputs: the token's own record plus a projection of its embedding, the sum scaled by
// 1/sqrt(2); [n_tokens, n_layers, width].
at::Tensor ModelTwin::ple_inputs(const TokenRow& row, const at::Tensor& embedded) {
  const ModelConfig& c = config();
  const int64_t n = embedded.size(0), width = c.ple_width, n_layers = c.n_layers();
  const LapReader& file = model_->file();
  const auto& tensors = file.tensors();
  const auto table = static_cast<size_t>(
      std::find_if(tensors.begin(), tensors.end(),
                   [&](const SourceTensor& t) { return t.name == model_->ple_table->name; }) -
      tensors.begin());
  at::Tensor token = at::empty({n, n_layers * width}, at::kFloat);
  for (int64_t t = 0; t < n; ++t)
    file.read_rows(
        table, row.ids[static_cast<size_t>(t)], 1,
        {token.data_ptr<float>() + t * n_layers * width, static_cast<size_t>(n_layers * width)});
  token.mul_(std::sqrt(static_cast<double>(width)));
  const at::Tensor projected = packed_linear(weights_, model_->ple_model_projection, embedded)
                                   .mul_(1.0 / std::sqrt(static_cast<double>(c.d_model)))
                                   .view({n, n_layers, width});
  return (norm(projected, ple_projection_norm_) + token.view({n, n_layers, width}))
      .mul_(1.0 / std::sqrt(2.0));
}

ModelTwin::RowContext ModelTwin::make_context(const TokenRow& row, const at::Tensor& embedded) {
  RowContext context;
  const std::vector<int64_t> positions = positions_of(row);
  std::map<int, std::shared_ptr<const AttentionPlan>> plans;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerConfig& layer = config().layers[i];
    const int window = layer.attention == AttentionKind::kSliding ? layer.window : 0;
    auto& plan = plans[window];
    if (!plan) plan = plan_attention(row.lengths, window);
    context.plans.push_back(plan);
    std::shared_ptr<const RopeTables> rope;
    for (size_t j = 0; j < i && !rope; ++j)
      if (config().layers[j].rope == layer.rope && config().layers[j].head_dim == layer.head_dim)
        rope = context.ropes[j];
    if (!rope)
      rope = std::make_shared<RopeTables>(rope_tables(layer.rope, layer.head_dim, positions));
    context.ropes.push_back(rope);
  }
  if (config().ple_width > 0) context.ple = ple_inputs(row, embedded);
  return context;
}

at::Tensor ModelTwin::feed_forward(int index, const at::Tensor& residual) {
  const TwinLayer& t = layers_[static_cast<size_t>(index)];
  at::Tensor out = mlp(t, norm(residual, t.pre_ff_norm));
  if (t.router.matrix) {
    out = norm(out, t.post_ff_norm_1) +
          norm(experts(index, residual, norm(residual, t.pre_ff_norm_2)), t.post_ff_norm_2);
  }
  return config().sandwich_norms ? norm(out, t.post_ff_norm) : out;
}

std::vector<at::Tensor> ModelTwin::layer(int index, const RowContext& context,
                                         const std::vector<at::Tensor>& inputs) {
  const auto i = static_cast<size_t>(index);
  const ModelConfig& c = config();
  const LayerConfig& shape = c.layers[i];
  const TwinLayer& t = layers_[i];
  const auto heads = [&](const at::Tensor& x, int n) {
    return x.view({x.size(0), n, shape.head_dim});
  };
  at::Tensor h = inputs[0];
  const at::Tensor x = norm(h, t.input_norm);

  at::Tensor q = heads(linear(t.q, x), shape.n_heads);
  if (c.qk_norm) q = norm(q, t.q_norm);
  q = apply_rope(q, *context.ropes[i]);
  at::Tensor k, v;
  if (c.owns_kv(index)) {
    k = heads(linear(t.k, x), shape.n_kv_heads);
    v = shape.k_eq_v ? k : heads(linear(t.v, x), shape.n_kv_heads);
    if (c.qk_norm) k = norm(k, t.k_norm);
    k = apply_rope(k, *context.ropes[i]);
    if (c.v_norm) v = norm(v, {});
  } else {
    k = inputs[1];
    v = inputs[2];
  }
  const at::Tensor attended = attention(context.plans[i], q, k, v, c.attention_scale);
  at::Tensor out = linear(t.o, attended.reshape({h.size(0), -1}));
  if (c.sandwich_norms) out = norm(out, t.post_attention_norm);
  h = h + out;
  h = h + feed_forward(index, h);
  if (context.ple.defined()) {
    const at::Tensor u = activate(linear(t.ple_gate, h)) * context.ple.select(1, index);
    h = h + norm(linear(t.ple_projection, u), t.post_ple_norm);
  }
  if (c.layer_scalar) h = h * model_->layers[i].scalar;
  if (t.feeds_later) return {h, k, v};
  return {h};
}

at::Tensor ModelTwin::hidden(const TokenRow& row, bool checkpoint_activations, const TwinTap& tap) {
  LAPIDARY_CHECK(!row.ids.empty());
  at::Tensor h = weights_.gather(model_->embedding, row.ids).mul_(config().embedding_scale);
  if (tap) tap(0, h);
  const auto context = std::make_shared<RowContext>(make_context(row, h));
  std::vector<std::vector<at::Tensor>> kv(layers_.size());  // K and V of layers that feed others
  for (int i = 0; i < config().n_layers(); ++i) {
    std::vector<at::Tensor> inputs{h};
    if (!config().owns_kv(i)) {
      const auto& source =
          kv[static_cast<size_t>(config().layers[static_cast<size_t>(i)].kv_source)];
      inputs.insert(inputs.end(), source.begin(), source.end());
    }
    const auto run = [this, i, context](const std::vector<at::Tensor>& in) {
      return layer(i, *context, in);
    };
    std::vector<at::Tensor> out = checkpoint_activations ? recompute(run, inputs) : run(inputs);
    h = out[0];
    if (out.size() == 3) kv[static_cast<size_t>(i)] = {out[1], out[2]};
    if (tap) tap(i + 1, h);
  }
  h = norm(h, final_norm_);
  if (tap) tap(config().n_layers() + 1, h);
  return h;
}

at::Tensor ModelTwin::logits(const at::Tensor& hidden) { return head_logits(head_, hidden); }

at::Tensor ModelTwin::loss(const TokenRow& row, const at::Tensor& hidden, double weight) {
  std::vector<int64_t> where, targets;
  int64_t begin = 0;
  for (const int64_t length : row.lengths) {
    for (int64_t t = begin; t + 1 < begin + length; ++t) {
      const int32_t label = row.labels[static_cast<size_t>(t + 1)];
      if (label == kNotLearned) continue;
      where.push_back(t);
      targets.push_back(label);
    }
    begin += length;
  }
  if (where.empty()) return {};
  const auto to_long = [](const std::vector<int64_t>& v) {
    return at::tensor(at::ArrayRef<int64_t>(v), at::kLong);
  };
  return head_cross_entropy(head_, hidden.index_select(0, to_long(where)), to_long(targets),
                            weight);
}

}  // namespace lapidary
