// Sizes of the buffers: the widest layer decides.
#include "runtime/workspace.h"

#include <algorithm>

namespace lapidary {

Workspace::Workspace(const ModelConfig& config, int max_batch_tokens, int max_logits,
                     int64_t rope_width, int64_t ple_row_bytes, int n_lanes) {
  const int64_t n = max_batch_tokens;
  int64_t q_width = 0, kv_width = 0, d_ff = 0, n_experts = 0, n_used = 0, d_expert = 0;
  for (const LayerConfig& layer : config.layers) {
    q_width = std::max<int64_t>(q_width, int64_t{layer.n_heads} * layer.head_dim);
    kv_width = std::max<int64_t>(kv_width, int64_t{layer.n_kv_heads} * layer.head_dim);
    d_ff = std::max<int64_t>(d_ff, layer.d_ff);
    n_experts = std::max<int64_t>(n_experts, layer.n_experts);
    n_used = std::max<int64_t>(n_used, layer.n_experts_used);
    d_expert = std::max<int64_t>(d_expert, layer.d_expert);
  }
  const auto floats = [](int64_t rows, int64_t width) {
    return AlignedBuffer<float>(rows * width);
  };
  rows.reserve(max_batch_tokens);
  hidden = floats(n, config.d_model);
  normed = floats(n, config.d_model);
  branch = floats(n, config.d_model);
  q = floats(n, q_width);
  k = floats(n, kv_width);
  v = floats(n, kv_width);
  attended = floats(n, q_width);
  gate = floats(n, d_ff);
  up = floats(n, d_ff);
  rope = floats(n, rope_width);
  logits = floats(max_logits, config.vocab_size);
  best = AlignedBuffer<Candidate>(int64_t{max_logits} * kMostBest);
  lane_best = AlignedBuffer<Candidate>(best.size() * n_lanes);

  if (config.ple_width > 0) {
    const int64_t width = int64_t{config.n_layers()} * config.ple_width;
    ple = floats(n, width);
    ple_token = floats(n, width);
    ple_gate = floats(n, config.ple_width);
    ple_bytes = AlignedBuffer<uint8_t>(n * ple_row_bytes);
  }
  if (n_experts > 0) {
    router_logits = floats(n, n_experts);
    expert_in = floats(n * n_used, config.d_model);
    expert_out = floats(n * n_used, config.d_model);
    expert_act = floats(n * n_used, d_expert);
    expert_branch = floats(n, config.d_model);
    chosen = AlignedBuffer<int32_t>(n * n_used);
    chosen_weight = floats(n, n_used);
    grouped_row = AlignedBuffer<int32_t>(n * n_used);
    expert_first = AlignedBuffer<int32_t>(n_experts + 1);
  }
}

}  // namespace lapidary
