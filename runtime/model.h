// A loaded model: the mapped file, its description, and typed views of its weights per layer.
//
// Immutable after load and shared by engines. Norms and scalars are small and copied to float32;
// matrices are used where they lie. Loading checks that every tensor the description needs is there
// with the right shape, and nothing else is.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/lap.h"
#include "runtime/text/tokenizer.h"

namespace lapidary {

struct LayerWeights {
  // [d_model]. Families without sandwich norms have only the first and the third, and Hugging Face
  // calls that third one post_attention_layernorm.
  std::vector<float> input_norm, post_attention_norm, pre_ff_norm, post_ff_norm;
  std::vector<float> q_norm, k_norm;  // [head_dim], empty if none
  MatrixView q, k, v, o;              // k, v empty (rows 0) when this layer does not own them
  MatrixView gate, up, down;          // dense MLP
  float scalar = 1.0f;
  // Mixture of experts; empty if none.
  MatrixView router;                                  // [n_experts, d_model]
  std::vector<float> router_scale, per_expert_scale;  // [d_model], [n_experts]
  std::vector<MatrixView> expert_gate_up;             // per expert [2 d_expert, d_model]
  std::vector<MatrixView> expert_down;                // per expert [d_model, d_expert]
  std::vector<float> post_ff_norm_1, post_ff_norm_2, pre_ff_norm_2;
  // Per-layer embeddings; empty if none.
  MatrixView ple_gate, ple_projection;  // [ple_width, d_model], [d_model, ple_width]
  std::vector<float> post_ple_norm;
};

// What an assistant has beside its layers; empty in other models.
struct AssistantWeights {
  MatrixView pre_projection, post_projection;  // [d_model, 2 target_width], [target_width, d_model]
  MatrixView centroids;                        // [n_centroids, d_model]; the vocabulary's clusters
  std::vector<int32_t> token_ordering;         // [vocab_size], cluster by cluster
};

class Model {
 public:
  // Throws kNotFound, kIo, or kBadData naming the tensor that is missing, too many, or misshapen;
  // kUsage for an assistant.
  static std::shared_ptr<const Model> load(const std::string& path);
  // An assistant; in its config, kv_source of each layer is the layer of `target` whose K and V it
  // reads. Throws as load(), and kUsage for a model that is no assistant or not this target's.
  static std::shared_ptr<const Model> load_assistant(const std::string& path, const Model& target);

  // Shapes and views come from a ModelLoader (runtime/model_loader.h); there is no file.
  explicit Model(const ModelConfig& config) : config_(config) {}

  const ModelConfig& config() const { return config_; }
  // REQUIRES: loaded from a file.
  const LapReader& file() const { return *file_; }
  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  // REQUIRES: has_tokenizer().
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  MatrixView embedding;  // [vocab, d_model]
  MatrixView head;       // the same view when tied
  std::vector<float> final_norm;
  MatrixView ple_model_projection;         // [n_layers * ple_width, d_model]
  std::vector<float> ple_projection_norm;  // [ple_width]
  const LapTensor* ple_table = nullptr;    // read by pread from ple_file; null if none
  const ReadFile* ple_file = nullptr;
  RowTableGeometry ple_geometry{};  // of ple_table
  std::vector<LayerWeights> layers;
  AssistantWeights assistant;

  // The matrix behind a module name ("model.layers.3.self_attn.q_proj"); null when there is none.
  // Stacks of experts have no single matrix and are not found.
  const MatrixView* find_matrix(std::string_view module) const;

 private:
  static std::shared_ptr<const Model> load(std::unique_ptr<LapReader> file,
                                           const ModelConfig& config);

  ModelConfig config_;
  std::unique_ptr<LapReader> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unordered_map<std::string, MatrixView*> matrices_;
  std::unordered_map<std::string, std::vector<MatrixView>*> stacks_;  // of experts
  friend class ModelLoader;                                           // model_loader.h
  friend class ModelOverlay;                                          // model_overlay.h
};

}  // namespace lapidary
