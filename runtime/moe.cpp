// Mixture of experts beside a dense MLP (Gemma 4 26B-A4B). Formulas:
// transformers' modeling_gemma4.py.
//
// Both branches and the router start from the same residual stream. Tokens are grouped by expert,
// so that each chosen expert is one product; a token's experts are summed in ascending expert
// order, whoever shares the batch.
#include <algorithm>
#include <cmath>

#include "runtime/forward.h"

namespace lapidary {

void Forward::mlp_with_experts(int layer) {
  choose_experts(layer);
  run_experts(layer);
  dense_mlp(layer);
  combine_experts(layer);
  leave_branch(model_.layers[layer].post_ff_norm);
}

// Per token the n_experts_used best, in ascending expert order, and what each one's output weighs:
// softmax over the chosen logits (equal to renormalizing a softmax over all), times its own scale.
// The router's input stays in floats: rounded to int8 it flips close choices, which is most of what
// int8 activations cost such a model (docs/results.md), for less than 1 % of its products.
void Forward::choose_experts(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const int n_experts = config_.layers[layer].n_experts;
  const int n_used = config_.layers[layer].n_experts_used;
  const int64_t d_model = config_.d_model;
  const float input_scale = 1.0f / std::sqrt(static_cast<float>(d_model));
  router_linear_.multiply(ws.normed.data(), ws.rows, d_model,
                          {{&weights.router, ws.router_logits.data()}}, [&](int64_t t) {
                            join_branch(t);
                            float* z = ws.normed.row(t, d_model);
                            kernels_.rms_norm(ws.hidden.row(t, d_model), nullptr, 0.0f,
                                              config_.norm_eps, 1, d_model, z);
                            for (int64_t i = 0; i < d_model; ++i)
                              z[i] = z[i] * weights.router_scale[i] * input_scale;
                          });
  branch_norm_ = nullptr;
  pool_.run(n(), [&](int64_t t) {
    const float* logits = ws.router_logits.row(t, n_experts);
    int32_t* chosen = ws.chosen.row(t, n_used);
    float* weight = ws.chosen_weight.row(t, n_used);
    // Insertion into a short list kept best first; the lower expert wins a tie.
    int n_chosen = 0;
    for (int32_t e = 0; e < n_experts; ++e) {
      int at = n_chosen;
      while (at > 0 && logits[e] > logits[chosen[at - 1]]) --at;
      if (at == n_used) continue;
      n_chosen = std::min(n_chosen + 1, n_used);
      for (int i = n_chosen - 1; i > at; --i) chosen[i] = chosen[i - 1];
      chosen[at] = e;
    }
    const float best = logits[chosen[0]];
    std::sort(chosen, chosen + n_used);
    float sum = 0.0f;
    for (int i = 0; i < n_used; ++i) sum += weight[i] = std::exp(logits[chosen[i]] - best);
    for (int i = 0; i < n_used; ++i)
      weight[i] = weight[i] / sum * weights.per_expert_scale[chosen[i]];
  });
}

// Counting sort of (token, expert) pairs by expert: where each pair's row lies in expert_in.
void Forward::group_by_expert(int n_experts, int n_used) {
  Workspace& ws = workspace_;
  int32_t* first = ws.expert_first.data();
  const int64_t n_slots = n() * n_used;
  std::fill_n(first, n_experts + 1, 0);
  for (int64_t slot = 0; slot < n_slots; ++slot) ++first[ws.chosen.data()[slot] + 1];
  for (int e = 0; e < n_experts; ++e) first[e + 1] += first[e];
  // Filling moves each start to its group's end, which is the next group's start: shift back after.
  for (int64_t slot = 0; slot < n_slots; ++slot)
    ws.grouped_row.data()[slot] = first[ws.chosen.data()[slot]]++;
  for (int e = n_experts; e > 0; --e) first[e] = first[e - 1];
  first[0] = 0;
}

// Whether a row's adapter sits on this layer's experts (on all of a stack, if on any), and each
// grouped row's owner in expert_rows_.
bool Forward::experts_are_adapted(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  if (!linear_.any_adapted(ws.rows, weights.expert_gate_up[0]) &&
      !linear_.any_adapted(ws.rows, weights.expert_down[0]))
    return false;
  const int n_used = config_.layers[layer].n_experts_used;
  expert_rows_.resize(static_cast<size_t>(n() * n_used));
  for (int64_t slot = 0; slot < n() * n_used; ++slot)
    expert_rows_[static_cast<size_t>(ws.grouped_row.data()[slot])] = ws.rows[slot / n_used];
  return true;
}

// expert_out = down(activation(gate(z)) * up(z)), z = norm(hidden), for every (token, expert) pair:
// two runs of all threads, each over a list of (expert, rows of its matrix). An adapter's part must
// be added before the activation: then gate and up come out apart, one of 2 d_expert wide rows.
void Forward::run_experts(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const LayerConfig& shape = config_.layers[layer];
  const int n_used = shape.n_experts_used;
  const int64_t d_model = config_.d_model, d_expert = shape.d_expert, n_slots = n() * n_used;
  group_by_expert(shape.n_experts, n_used);
  const bool adapted = experts_are_adapted(layer);
  const int64_t wide = 2 * d_expert;
  if (adapted && static_cast<int64_t>(expert_gate_up_.size()) < n_slots * wide)
    expert_gate_up_.resize(static_cast<size_t>(n_slots * wide));
  const auto list_products = [&](const std::vector<MatrixView>& experts, float* y, UpRows up) {
    const int32_t* first = ws.expert_first.data();
    expert_products_.clear();
    for (int e = 0; e < shape.n_experts; ++e) {
      if (first[e + 1] == first[e]) continue;
      if (up.width > 0) up.w = &experts[e];
      expert_products_.push_back({&experts[e], y, first[e], first[e + 1] - first[e], up});
    }
  };

  // A token's row is made once, in the place of its first expert's, and repeated for the others.
  if (adapted)
    list_products(weights.expert_gate_up, expert_gate_up_.data(), {});
  else
    list_products(weights.expert_gate_up, ws.expert_act.data(),
                  {.first_row = d_expert, .width = d_expert});
  linear_.begin(ws.expert_in.data(), n_slots, d_model, expert_products_);
  linear_.each_row(n(), [&](int64_t t) {
    const int32_t* slots = ws.grouped_row.row(t, n_used);
    float* z = ws.expert_in.row(slots[0], d_model);
    kernels_.rms_norm(ws.hidden.row(t, d_model), weights.pre_ff_norm_2.data(),
                      config_.norm_unit_offset ? 1.0f : 0.0f, config_.norm_eps, 1, d_model, z);
    linear_.prepare_row(slots[0]);
    for (int i = 1; i < n_used; ++i) {
      linear_.repeat_row(slots[0], slots[i]);
      if (adapted || linear_.reads_floats())
        std::copy_n(z, d_model, ws.expert_in.row(slots[i], d_model));
    }
  });
  linear_.run(expert_products_);
  if (adapted)
    for (const Product& product : expert_products_) linear_.add_adapters(expert_rows_, product);

  list_products(weights.expert_down, ws.expert_out.data(), {});
  linear_.begin(ws.expert_act.data(), n_slots, d_expert, expert_products_);
  linear_.each_row(n_slots, [&](int64_t row) {
    if (adapted) {
      const float* gate = expert_gate_up_.data() + row * wide;
      gated_(gate, gate + d_expert, d_expert, ws.expert_act.row(row, d_expert));
    }
    linear_.prepare_row(row);
  });
  linear_.run(expert_products_);
  if (adapted)
    for (const Product& product : expert_products_) linear_.add_adapters(expert_rows_, product);
}

// branch = norm(branch of the dense MLP) + norm(weighted sum of the token's experts, ascending)
void Forward::combine_experts(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const int n_used = config_.layers[layer].n_experts_used;
  const int64_t d_model = config_.d_model;
  pool_.run(n(), [&](int64_t t) {
    float* sum = ws.expert_branch.row(t, d_model);
    std::fill_n(sum, d_model, 0.0f);
    for (int64_t slot = t * n_used; slot < (t + 1) * n_used; ++slot) {
      const float weight = ws.chosen_weight.data()[slot];
      const float* expert = ws.expert_out.row(ws.grouped_row.data()[slot], d_model);
      for (int64_t i = 0; i < d_model; ++i) sum[i] += weight * expert[i];
    }
    norm(t, ws.expert_branch, weights.post_ff_norm_2, ws.expert_branch);
    norm(t, ws.branch, weights.post_ff_norm_1, ws.branch);
    float* branch = ws.branch.row(t, d_model);
    for (int64_t i = 0; i < d_model; ++i) branch[i] += sum[i];
  });
}

}  // namespace lapidary
