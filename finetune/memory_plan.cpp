// Counting what model_twin.cpp, head_loss.cpp and attention.cpp keep.
#include "finetune/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "formats/peft_config.h"

namespace lapidary {
namespace {

constexpr int64_t kFloat = 4;
// The process with LibTorch's code and its compiled kernels, before any weight is touched;
// measured.
constexpr int64_t kProcessBytes = int64_t{230} << 20;
constexpr int64_t kScratchBytes = int64_t{16} << 20;  // frozen_weights.cpp: packed rows of W
constexpr int64_t kLogitBytes = int64_t{512} << 20;   // head_loss.cpp: logits of one chunk

// Floats per token that the forward pass of a layer leaves for its backward pass: inputs and
// outputs of products, of norms and of the activation.
int64_t kept_per_token(const ModelConfig& c, const LayerConfig& l, bool owns_kv) {
  const int64_t d = c.d_model, q = int64_t{l.n_heads} * l.head_dim;
  const int64_t kv = int64_t{l.n_kv_heads} * l.head_dim;
  int64_t n = 6 * d + 3 * q + (owns_kv ? (l.k_eq_v ? 3 : 4) * kv : 0) + 3 * int64_t{l.d_ff};
  if (c.ple_width > 0) n += 2 * d + 3 * c.ple_width;
  // Per chosen expert: its row in and out, gate and up, what comes of them.
  if (l.n_experts > 0) n += 2 * d + l.n_experts_used * (3 * d + 4 * int64_t{l.d_expert});
  return n;
}

// What its backward pass needs beside that at its highest point: the gradients around the
// activation, or those of the experts' rows.
int64_t transient_per_token(const ModelConfig& c, const LayerConfig& l) {
  const int64_t dense = 3 * int64_t{l.d_ff};
  const int64_t experts = l.n_experts_used * (2 * int64_t{c.d_model} + 5 * int64_t{l.d_expert});
  return 3 * int64_t{c.d_model} + std::max(dense, experts);
}

// Scores of one tile, their gradient and a product of both, on each thread.
int64_t attention_bytes(const LayerConfig& l, const MemoryPlanOptions& o) {
  const int64_t keys = l.window > 0 ? std::min<int64_t>(l.window + 256, o.tokens) : o.tokens;
  const int64_t rows = std::min<int64_t>(256, o.tokens) * (l.n_heads / std::max(1, l.n_kv_heads));
  return 3 * kFloat * rows * keys * o.n_threads;
}

int64_t trained(const ModelConfig& config, const MemoryPlanOptions& o) {
  const AdaptableShapes shapes = adaptable_shapes(config);
  const std::vector<AdaptableMatrix>& matrices = shapes.matrices;
  PeftConfig peft = o.peft;
  resolve_targets(peft, matrices);
  set_ranks(peft, o.rank_for, matrices);
  const LoraScales scales(peft);
  int64_t n = 0;
  for (const AdaptableMatrix& m : matrices) {
    if (!is_target(peft, m)) continue;
    const int64_t n_matrices = m.experts ? static_cast<int64_t>(m.experts->size()) : 1;
    n += n_matrices * scales.rank(m.module) * (m.matrix->rows + m.matrix->k);
    if (peft.dora) n += n_matrices * m.matrix->rows;
  }
  return n;
}

}  // namespace

int64_t MemoryPlan::total() const {
  return std::accumulate(parts.begin(), parts.end(), int64_t{0},
                         [](int64_t sum, const MemoryPart& p) { return sum + p.bytes; });
}

MemoryPlan plan_memory(const ModelConfig& config, int64_t base_bytes, const MemoryPlanOptions& o) {
  const int64_t t = o.tokens, d = config.d_model;
  MemoryPlan plan;
  plan.trained_parameters = trained(config, o);
  const int64_t parameters = plan.trained_parameters;

  int64_t widest = 0, every = 0, kv = 0, widest_input = d;
  for (int i = 0; i < config.n_layers(); ++i) {
    const LayerConfig& l = config.layers[static_cast<size_t>(i)];
    const int64_t kept = kept_per_token(config, l, config.owns_kv(i)) * t * kFloat;
    every += kept;
    const int64_t layer =
        (o.checkpoint_activations ? kept : 0) +
        std::max(transient_per_token(config, l) * t * kFloat, attention_bytes(l, o));
    widest = std::max(widest, layer);
    widest_input = std::max<int64_t>({widest_input, l.d_ff, int64_t{l.n_heads} * l.head_dim});
    // K and V that other layers read, and their gradients.
    const bool feeds =
        std::any_of(config.layers.begin(), config.layers.end(),
                    [&](const auto& other) { return other.kv_source == i && &other != &l; });
    if (feeds) kv += 4 * int64_t{l.n_kv_heads} * l.head_dim * t * kFloat;
  }
  const int64_t states =
      o.checkpoint_activations ? config.n_layers() * d * t * (o.bfloat16 ? 2 : 4) : every;
  const int64_t outputs = o.checkpoint_activations
                              ? plan_kept(config, t, t, o.bfloat16 ? 2 : 4, o.kept_bytes).bytes
                              : 0;
  const int64_t ple = int64_t{config.n_layers()} * config.ple_width * t * kFloat;
  const int64_t chunk =
      std::min(t, std::max<int64_t>(16, kLogitBytes / kFloat / config.vocab_size / 16 * 16));
  const int64_t head = chunk * config.vocab_size * kFloat + 2 * t * d * kFloat;
  const int64_t left = t * widest_input * (o.bfloat16 ? 2 : 4);

  plan.parts = {
      {"packed weights", base_bytes},
      {"adapters", parameters * kFloat},
      {"gradients", parameters * kFloat},
      {o.adam_8bit ? "optimizer, 8 bits" : "optimizer",
       o.adam_8bit ? parameters * 2 + parameters / 32 : 2 * parameters * kFloat},
      {o.checkpoint_activations ? "states between layers" : "states of all layers",
       states + ple + kv},
      {"outputs not computed again", outputs},
      {head > widest ? "head: one chunk of logits" : "one layer, backward", std::max(head, widest)},
      {"scratch: packed operands", kScratchBytes + left},
      {"process", kProcessBytes}};
  return plan;
}

AdaptableShapes adaptable_shapes(const ModelConfig& config) {
  AdaptableShapes shapes;
  const auto view_of = [](int64_t rows, int64_t k) {
    MatrixView view;
    view.rows = rows;
    view.k = k;
    return view;
  };
  const auto add = [&](const std::string& name, int64_t rows, int64_t k) {
    shapes.matrices.push_back({name, &shapes.views.emplace_back(view_of(rows, k))});
  };
  for (int i = 0; i < config.n_layers(); ++i) {
    const LayerConfig& l = config.layers[static_cast<size_t>(i)];
    const std::string p = fmt::format("model.layers.{}.", i);
    const int64_t d = config.d_model, q = int64_t{l.n_heads} * l.head_dim;
    const int64_t kv = int64_t{l.n_kv_heads} * l.head_dim;
    add(p + "self_attn.q_proj", q, d);
    if (config.owns_kv(i)) {
      add(p + "self_attn.k_proj", kv, d);
      if (!l.k_eq_v) add(p + "self_attn.v_proj", kv, d);
    }
    add(p + "self_attn.o_proj", d, q);
    add(p + "mlp.gate_proj", l.d_ff, d);
    add(p + "mlp.up_proj", l.d_ff, d);
    add(p + "mlp.down_proj", d, l.d_ff);
    if (config.ple_width > 0) {
      add(p + "per_layer_input_gate", config.ple_width, d);
      add(p + "per_layer_projection", d, config.ple_width);
    }
    if (l.n_experts == 0) continue;
    add(p + "router.proj", l.n_experts, d);
    const auto add_stack = [&](const char* name, int64_t rows, int64_t k) {
      const auto& stack =
          shapes.stacks.emplace_back(static_cast<size_t>(l.n_experts), view_of(rows, k));
      shapes.matrices.push_back({p + name, &stack.front(), &stack});
    };
    add_stack(kExpertsGateUp, int64_t{2} * l.d_expert, d);
    add_stack(kExpertsDown, d, l.d_expert);
  }
  return shapes;
}

}  // namespace lapidary
