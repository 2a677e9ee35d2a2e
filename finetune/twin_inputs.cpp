// What enters the twin's layers: embeddings of the tokens, and on E models their per-layer inputs.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "finetune/model_twin.h"
#include "finetune/packed_linear.h"

namespace lapidary {

// Scaled, [n_tokens, d_model].
at::Tensor ModelTwin::embed(const TokenRow& row) {
  at::Tensor h = weights_.gather(model_->embedding, row.ids).mul_(config().embedding_scale);
  if (watched_) watched_->embedded = h.requires_grad_(true);
  return h;
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
  if (watched_) watched_->ple = token.requires_grad_(true);
  const at::Tensor projected = packed_linear(weights_, model_->ple_model_projection, embedded)
                                   .mul(1.0 / std::sqrt(static_cast<double>(c.d_model)))
                                   .view({n, n_layers, width});
  return (norm(projected, ple_projection_norm_) + token.view({n, n_layers, width}))
      .mul_(1.0 / std::sqrt(2.0));
}

}  // namespace lapidary
