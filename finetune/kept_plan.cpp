// The greedy choice, by multiplications saved per value.
#include "finetune/kept_plan.h"

#include <algorithm>

namespace lapidary {
namespace {

struct Candidate {
  int64_t saved;   // multiplications per output value
  int64_t values;  // of the output
  int layer;
  LayerPart part;
};

void add_layer(const ModelConfig& c, int index, int64_t n_tokens, int64_t n_picked, bool narrow,
               std::vector<Candidate>& candidates) {
  const LayerConfig& l = c.layers[static_cast<size_t>(index)];
  const int64_t d = c.d_model, q = int64_t{l.n_heads} * l.head_dim;
  const int64_t kv = int64_t{l.n_kv_heads} * l.head_dim, queries = narrow ? n_picked : n_tokens;
  const auto add = [&](LayerPart part, int64_t saved, int64_t tokens, int64_t width) {
    if (tokens * width > 0) candidates.push_back({saved, tokens * width, index, part});
  };
  if (c.owns_kv(index)) {
    add(LayerPart::kK, d, n_tokens, kv);
    if (!l.k_eq_v) add(LayerPart::kV, d, n_tokens, kv);
  }
  // A query meets half of the tokens, or of a window and the tile that shares it; scores and sums.
  const int64_t keys = l.window > 0 ? std::min<int64_t>(l.window, n_tokens) : n_tokens;
  add(LayerPart::kQ, d, queries, q);
  add(LayerPart::kAttention, keys, queries, q);
  add(LayerPart::kO, q, queries, d);
  add(LayerPart::kGate, d, queries, l.d_ff);
  add(LayerPart::kUp, d, queries, l.d_ff);
  add(LayerPart::kDown, l.d_ff, queries, d);
  add(LayerPart::kPleGate, d, queries, c.ple_width);
  if (c.ple_width > 0) add(LayerPart::kPleProjection, c.ple_width, queries, d);
}

}  // namespace

KeptPlan plan_kept(const ModelConfig& config, int64_t n_tokens, int64_t n_picked,
                   int64_t bytes_per_value, int64_t most_bytes) {
  int last_own = 0;
  for (int i = 0; i < config.n_layers(); ++i)
    if (config.owns_kv(i)) last_own = i;
  std::vector<Candidate> candidates;
  for (int i = 0; i < config.n_layers(); ++i)
    add_layer(config, i, n_tokens, n_picked, i >= last_own, candidates);
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.saved > b.saved; });
  KeptPlan plan;
  plan.parts.resize(static_cast<size_t>(config.n_layers()));
  for (const Candidate& c : candidates) {
    const int64_t bytes = c.values * bytes_per_value;
    if (plan.bytes + bytes > most_bytes) continue;
    plan.bytes += bytes;
    plan.parts[static_cast<size_t>(c.layer)] |= 1U << static_cast<int>(c.part);
  }
  return plan;
}

}  // namespace lapidary
