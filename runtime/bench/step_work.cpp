// The counting, layer by layer, in the order of the forward pass.
#include "runtime/bench/step_work.h"

#include <algorithm>
#include <cmath>

namespace lapidary {
namespace {

double matrix_bytes(const MatrixView& w) {
  if (traits(w.code).is_float)
    return static_cast<double>(w.rows) * static_cast<double>(w.k) * traits(w.code).bits / 8;
  const PackedGeometry g = packed_geometry(w.code, w.rows, w.k);
  return static_cast<double>(g.code_bytes + g.meta_bytes);
}

// A matrix for `n_rows` inputs; none of it moves for none.
StepWork product(const MatrixView& w, int64_t n_rows) {
  if (n_rows == 0 || w.rows == 0) return {};
  return {matrix_bytes(w), static_cast<double>(n_rows) * static_cast<double>(w.rows * w.k)};
}

StepWork expert_products(const LayerWeights& weights, const LayerConfig& shape, int64_t n_rows) {
  const double n_experts = shape.n_experts, n_used = shape.n_experts_used;
  // Each token picks n_used of n_experts: an expert is missed with chance (1 - used/all)^n.
  const double n_met =
      n_experts * (1 - std::pow(1 - n_used / n_experts, static_cast<double>(n_rows)));
  StepWork work;
  for (const auto* stack : {&weights.expert_gate_up, &weights.expert_down}) {
    const MatrixView& w = stack->front();  // all of a stack are alike
    work += {n_met * matrix_bytes(w),
             n_used * static_cast<double>(n_rows) * static_cast<double>(w.rows * w.k)};
  }
  return work;
}

// What queries at [first_position, first_position + n_tokens) read of one layer's cache, each page
// once. Tokens that the chunk itself pushes from exact to packed count as the last query sees them.
double kv_bytes(const KvLayerPlan& layer, int64_t first_position, int64_t n_tokens) {
  const int64_t end = first_position + n_tokens;
  const int64_t begin = layer.sliding ? std::max<int64_t>(0, first_position - layer.window + 1) : 0;
  const int64_t n_packed = layer.code.packed()
                               ? std::max<int64_t>(0, packed_end(layer.ends, end - 1) -
                                                          std::max<int64_t>(begin, layer.ends.sink))
                               : 0;
  return static_cast<double>(n_packed) * static_cast<double>(layer.packed_page_bytes()) /
             kPageTokens +
         static_cast<double>(end - begin - n_packed) * static_cast<double>(layer.exact_row_bytes);
}

}  // namespace

StepWork step_work(const Model& model, const KvOptions& kv, int64_t first_position,
                   int64_t n_tokens, int64_t n_wanted) {
  const ModelConfig& config = model.config();
  const KvPlan cache = plan_kv(config, kv, first_position + n_tokens, /*max_batch_tokens=*/1);
  int last_owner = 0;
  for (int l = 0; l < config.n_layers(); ++l)
    if (config.owns_kv(l)) last_owner = l;

  StepWork work;
  // One row of the embedding per token, as it is packed.
  work.bytes += static_cast<double>(n_tokens) * matrix_bytes(model.embedding) /
                static_cast<double>(model.embedding.rows);
  if (config.ple_width > 0) {
    work.bytes += static_cast<double>(n_tokens * model.ple_geometry.row_bytes);
    // Each layer needs its own rows of the projection, for the tokens that get there.
    const StepWork one = product(model.ple_model_projection, 1);
    const double n_layers = config.n_layers();
    work.bytes += one.bytes * (n_wanted > 0 ? 1.0 : last_owner / n_layers);
    work.multiply_adds +=
        one.multiply_adds / n_layers *
        static_cast<double>(n_tokens * last_owner + n_wanted * (config.n_layers() - last_owner));
  }
  for (int l = 0; l < config.n_layers(); ++l) {
    const LayerWeights& w = model.layers[l];
    const LayerConfig& shape = config.layers[l];
    const int64_t n_rows = l < last_owner ? n_tokens : n_wanted;
    if (config.owns_kv(l))
      for (const MatrixView* m : {&w.k, &w.v}) work += product(*m, n_tokens);
    if (n_rows == 0) continue;
    for (const MatrixView* m :
         {&w.q, &w.o, &w.gate, &w.up, &w.down, &w.router, &w.ple_gate, &w.ple_projection})
      work += product(*m, n_rows);
    if (shape.n_experts > 0) work += expert_products(w, shape, n_rows);
    // Without logits for all, only the last tokens look back.
    for (const KvLayerPlan& layer : cache.layers)
      if (layer.layer == shape.kv_source)
        work.bytes += kv_bytes(layer, first_position + n_tokens - n_rows, n_rows);
  }
  return work += product(model.head, n_wanted);
}

}  // namespace lapidary
