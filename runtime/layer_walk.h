// One layer at a time over hidden states kept outside: how a model larger than memory is run for
// calibration.
//
// The arithmetic is Forward's own, layer by layer; only the order differs from Engine's: all
// sequences pass through a layer before the next one is loaded. So the caller can replace a layer's
// tensors between two passes. Float activations, K and V in float32. A tap sees every matrix's
// input. Hidden states are the same bits as Engine's with those options.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/forward.h"
#include "runtime/model_loader.h"

namespace lapidary {

// The input rows of some matrices of a layer. Row t of x counts factors[t] times in the outputs
// that matter (an expert's weight by the router); null: once.
struct MatrixInput {
  std::vector<const MatrixView*> matrices;  // of LayerWeights, or of the model
  const float* x;                           // [n_rows, k]
  int64_t n_rows, k;
  const float* factors;  // [n_rows]
};
using InputTap = std::function<void(const MatrixInput&)>;

class LayerWalk {
 public:
  // Sequences of up to `context` tokens. `store` must outlive this and know every tensor's shape.
  // Throws as Model::load() and plan_kv().
  LayerWalk(const ModelConfig& config, const TensorStore& store, int context, int n_threads);

  const Model& model() const { return *model_; }
  ThreadPool& pool() { return forward_.pool(); }
  // Views of the layer as `store` has them now.
  void load_layer(int layer) { loader_.load_layer(layer); }
  // The same for what belongs to no layer.
  void load_rest() { loader_.load(); }
  void set_tap(InputTap tap);  // empty: none

  // One sequence, hidden [n, d_model] in place. K and V of a layer that others share go to `kv`,
  // [kv_floats(layer, n)], or come from there. For models with per-layer embeddings `embedded`
  // [n, d_model] are the scaled embeddings and `ple` [n, ple_width] the table's part of this layer.
  struct Pass {
    float* hidden;
    int64_t n_tokens;
    float* kv = nullptr;
    const float* embedded = nullptr;
    const float* ple = nullptr;
  };
  void run(int layer, const Pass& pass);
  // The input of the head for one sequence: tapped as the head's, nothing is changed.
  void run_head_input(const float* hidden, int64_t n_tokens);
  // The input of the projection to per-layer embeddings, likewise.
  void run_ple_input(const float* embedded, int64_t n_tokens);

  // Whether other layers read this one's K and V, or it reads another's.
  bool shares_kv(int layer) const;
  int64_t kv_floats(int layer, int64_t n_tokens) const;

 private:
  void begin(int64_t n_tokens);
  void see(std::span<const Product> products, const float* x, int64_t k);
  void see_experts(std::span<const Product> products, const float* x, int64_t k, bool is_down);
  void copy_kv(int layer, int64_t n_tokens, float* kv, bool out);

  std::shared_ptr<Model> model_;
  ModelLoader loader_;
  const ModelConfig& config_;
  Forward forward_;
  std::unique_ptr<Sequence> sequence_;  // length 0: every pass writes the same positions
  InputTap tap_;
  int layer_ = 0;  // at hand
  std::vector<float> factors_, rows_;
};

}  // namespace lapidary
