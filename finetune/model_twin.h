// The forward pass of every supported family in LibTorch, differentiable with respect to adapters.
//
// It is the twin of runtime/engine: the same ModelConfig, the same weights, other arithmetic. A
// test holds the two against each other layer by layer. It exists for training only: no KV cache,
// no generation; rows of whole examples, float32, weights dequantized piece by piece.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "finetune/attention.h"
#include "finetune/frozen_weights.h"
#include "finetune/head_loss.h"
#include "finetune/keep_loss.h"
#include "finetune/kept_output.h"
#include "finetune/lora.h"
#include "finetune/rope.h"
#include "finetune/token_row.h"
#include "runtime/model.h"

namespace lapidary {

// A frozen matrix and what may sit on it.
struct TwinLinear {
  const MatrixView* matrix = nullptr;
  const LoraWeights* lora = nullptr;
};

struct TwinLayer {
  at::Tensor input_norm, post_attention_norm, pre_ff_norm, post_ff_norm, q_norm, k_norm;
  at::Tensor post_ff_norm_1, pre_ff_norm_2, post_ff_norm_2, post_ple_norm;
  at::Tensor router_scale, expert_scale;
  TwinLinear q, k, v, o, gate, up, down, router, ple_gate, ple_projection;
  const LoraWeights* expert_gate_up = nullptr;  // adapters of stacks; null: none
  const LoraWeights* expert_down = nullptr;
  bool feeds_later = false;  // a later layer reads this layer's K and V
};

// Leaves whose gradients are those of lookups: scaled embeddings [n_tokens, d_model], and scaled
// records of the per-layer table [n_tokens, n_layers * ple_width].
struct TwinInputs {
  at::Tensor embedded, ple;
};

// As Engine's tap: 0 the scaled embedding, l the output of layer l, n_layers + 1 the final norm.
using TwinTap = std::function<void(int layer, const at::Tensor& hidden)>;

class ModelTwin {
 public:
  ModelTwin(std::shared_ptr<const Model> model, int n_threads, Precision precision);

  // Everything an adapter may sit on, in the model's order. Embeddings and the per-layer projection
  // of the whole model stay frozen.
  const std::vector<AdaptableMatrix>& adaptable() const { return adaptable_; }
  // Uses `lora` (null: none) from now on. It must outlive its use.
  void set_adapter(const LoraSet* lora);
  FrozenWeights& weights() { return weights_; }
  // From now on hidden() makes its inputs leaves that want gradients, and puts them there; null:
  // not.
  void watch_inputs(TwinInputs* inputs) { watched_ = inputs; }
  const ModelConfig& config() const { return model_->config(); }
  // Memory for results that recomputed layers need not make again: kept_plan.h.
  void set_kept_bytes(int64_t bytes) { kept_bytes_ = bytes; }

  // States after the final norm of the picked tokens (ascending; none: of all), [n, d_model].
  // Layers that nothing but these states reads run on those tokens alone. With
  // `checkpoint_activations`, layers keep only their input and what set_kept_bytes() allows, in
  // bfloat16 where products are, and run again in the backward pass. REQUIRES: ids within the
  // vocabulary.
  at::Tensor hidden(const TokenRow& row, const std::vector<int64_t>& picked = {},
                    bool checkpoint_activations = false, const TwinTap& tap = {});
  at::Tensor logits(const at::Tensor& hidden);
  // Sum of -log p over the row's learned tokens, times `weight`; undefined when there are none.
  // `hidden`: states of `tokens`, all learned ones among them.
  at::Tensor loss(const TokenRow& row, const std::vector<int64_t>& tokens, const at::Tensor& hidden,
                  double weight);
  // Weighted sum of KL(base || tuned) over the row's kept tokens: the base is this model without
  // the adapter, and runs here. `hidden`: states of measured_tokens(row, weights).
  KeepLoss kl_to_base(const TokenRow& row, const at::Tensor& hidden, const KeepWeights& weights);

 private:
  // What all layers share for one row. `picked` are the tokens whose output is wanted, all when it
  // is undefined; layers from narrow_ on compute only those.
  struct RowContext {
    at::Tensor picked;                                        // int64
    std::vector<std::shared_ptr<const AttentionPlan>> plans;  // per layer
    std::vector<std::shared_ptr<const RopeTables>> ropes, query_ropes;
    at::Tensor ple;  // [n_tokens, n_layers, ple_width]; undefined: none
  };

  RowContext make_context(const TokenRow& row, const std::vector<int64_t>& picked,
                          const at::Tensor& embedded);
  at::Tensor embed(const TokenRow& row);
  at::Tensor ple_inputs(const TokenRow& row, const at::Tensor& embedded);
  // inputs: hidden, and the source's K and V where the layer owns none. Outputs: hidden, and K and
  // V where later layers need them.
  std::vector<at::Tensor> layer(int index, const RowContext& context,
                                const std::vector<at::Tensor>& inputs, KeptLayer& kept);
  at::Tensor linear(const TwinLinear& linear, const at::Tensor& x, KeptOutput* kept = nullptr);
  at::Tensor gated(const at::Tensor& gate, const at::Tensor& up);
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight);
  at::Tensor mlp(const TwinLayer& layer, const at::Tensor& x, KeptLayer& kept);
  at::Tensor feed_forward(int index, const at::Tensor& residual, KeptLayer& kept);
  at::Tensor experts(int index, const at::Tensor& residual, const at::Tensor& x);

  std::shared_ptr<const Model> model_;
  FrozenWeights weights_;
  HeadView head_;
  const LoraSet* lora_ = nullptr;
  at::Tensor final_norm_, ple_projection_norm_;
  std::vector<TwinLayer> layers_;
  std::vector<AdaptableMatrix> adaptable_;
  TwinInputs* watched_ = nullptr;
  int64_t kept_bytes_ = kKeptBytes;
  int narrow_ = 0;  // the last layer with K and V of its own
};

}  // namespace lapidary
