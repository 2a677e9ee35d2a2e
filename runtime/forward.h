// The forward pass: one description, one function, every supported family.
//
// Works on the rows of one step (runtime/workspace.h), already checked by the engine; writes each
// token's K and V into its sequence and the logits of the wanted rows into the workspace. Formulas:
// transformers' modeling_gemma4.py, and its neighbours for the other families. Everything is
// float32 between the matrices; each row is computed in an order of its own, so batches change no
// bit.
//
// Each branch (attention, MLP, per-layer embedding) leaves its output in workspace().branch; the
// pass over tokens that reads the residual stream next adds it, norms and quantizes. So a layer of
// one token meets all threads only for its products and attention.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "runtime/attend.h"
#include "runtime/engine.h"
#include "runtime/linear.h"
#include "runtime/rope_table.h"
#include "runtime/v_only.h"
#include "runtime/workspace.h"

namespace lapidary {

class Forward {
 public:
  // An assistant's layers read K and V that another model's engine has made, with its threads.
  struct Target {
    const Model& model;
    ThreadPool& pool;
  };
  Forward(const Model& model, const EngineOptions& options,
          const std::optional<Target>& target = std::nullopt);

  // Runs workspace().rows. Afterwards the first rows of workspace().logits are the wanted rows';
  // or, where n_best > 0, the first of workspace().best [n_wanted, n_best] are. Throws kIo before
  // anything is changed when the per-layer embeddings cannot be read. `start`: null, or where to
  // begin.
  void run(int n_best, const LayerTap& tap, const LayerStart* start = nullptr);
  // Only stores random K and V for workspace().rows; see Engine::append_random().
  void make_up_kv();  // random_history.cpp

  // The same piece by piece, for hidden states that are kept elsewhere between layers
  // (runtime/layer_walk.h): one layer on workspace().hidden, in place, after the angles and the
  // layer's per-layer embedding are there.
  void fill_angles();
  void combine_ple_of(int layer);  // from workspace().ple_token and the embeddings in hidden
  void run_layer(int layer);
  void normalize(const std::vector<float>& weight);  // normed = norm of hidden
  void set_product_tap(const ProductTap& tap);       // empty: none

  Workspace& workspace() { return workspace_; }
  ThreadPool& pool() { return pool_; }
  void reserve_rank(int64_t rank) {
    linear_.reserve_rank(rank);
    router_linear_.reserve_rank(rank);
    fine_linear_.reserve_rank(rank);
  }

 private:
  // ple.cpp
  void read_ple();
  void combine_ple();
  void mix_ple(float* projected, const float* token, int64_t n_layers) const;
  void inject_ple(int layer);
  // moe.cpp
  void mlp_with_experts(int layer);
  void choose_experts(int layer);
  void group_by_expert(int n_experts, int n_used);
  bool experts_are_adapted(int layer);
  void run_experts(int layer);
  void combine_experts(int layer);
  // head.cpp
  void sum_states();
  // What multiplies the matrices whose inputs are worth 16 bits: attention's output and the head.
  Linear& linear_for(const MatrixView& w);
  void head(int n_best, const LayerTap& tap);
  // attention.cpp
  void attention(int layer);
  void finish_q(int layer, int64_t t);
  void store_kv(int layer, int64_t t);
  void put_kv(int layer, const Row& row, const float* k, const float* v);
  void pack_pages(int layer);
  void leave_cache_basis(int layer);
  void drop_unwanted_rows();
  // forward.cpp
  void embed();
  void mlp(int layer);
  void dense_mlp(int layer);
  void finish_layer(int layer);

  int64_t n() const { return static_cast<int64_t>(workspace_.rows.size()); }
  // out = RMSNorm of x, row t of both [n, d_model]; `weight` empty: weightless.
  void norm(int64_t t, AlignedBuffer<float>& x, const std::vector<float>& weight,
            AlignedBuffer<float>& out);
  // The branch at hand waits to be added, through this norm where the model has norms on outputs.
  void leave_branch(const std::vector<float>& norm) { branch_norm_ = &norm; }
  // hidden = (hidden + the branch that waits) * factor for row t; nothing if none waits.
  void join_branch(int64_t t, float factor = 1.0f);

  struct PageToPack {
    const Sequence* sequence;
    int64_t page;
    int kv_head;
  };

  const Model& model_;
  const ModelConfig& config_;
  const KernelTable& kernels_;
  std::optional<ThreadPool> own_pool_;
  ThreadPool& pool_;
  RopeTable rope_;
  Workspace workspace_;
  GatedActivation gated_;
  Linear linear_;
  Linear router_linear_;  // float activations, see choose_experts
  Linear fine_linear_;    // 16-bit ones, see linear_for
  PageAttention page_attention_;
  std::vector<VOnlyLayer> v_only_;         // per layer, the target's if there is one
  std::vector<PageToPack> pages_to_pack_;  // of one layer and step
  std::vector<Row> expert_rows_;           // per grouped row, beside adapters of experts
  std::vector<float> expert_gate_up_;      // [n_slots, 2 d_expert], beside adapters of experts
  std::vector<Product> expert_products_;   // reserved for all experts
  const std::vector<float>* branch_norm_ = nullptr;  // of the branch that waits; null: none does
  int last_kv_layer_ = 0;                            // later layers only read K and V
};

}  // namespace lapidary
