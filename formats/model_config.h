// A model's architecture as data: everything the forward pass needs to know, for every family.
//
// convert/ fills it from a Hugging Face config, .lap files carry it as JSON, runtime/ and finetune/
// read it. There is no class per family: a layer is described by its numbers and switches.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

enum class AttentionKind : uint8_t { kSliding, kGlobal };
enum class Activation : uint8_t { kGeluTanh, kSilu };
enum class RopeKind : uint8_t {
  kDefault,       // all pairs rotate: inv_freq_i = theta^(-2i/head_dim) / factor
  kProportional,  // only the first rotated_fraction of the pairs rotate, same exponents
  kLlama3         // low frequencies divided by factor, blended between the two limits
};

struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double rotated_fraction = 1.0;
  double factor = 1.0;  // linear divisor (default, proportional) or llama3's factor
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3 only
  int64_t original_context = 8192;                       // llama3 only
  bool operator==(const RopeConfig&) const = default;
};

struct LayerConfig {
  AttentionKind attention = AttentionKind::kGlobal;
  int window = 0;  // keys visible to a query, itself included; 0 on global layers
  int head_dim = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  RopeConfig rope;
  // Own index, or the earlier layer whose K and V this layer reads. Of an assistant's layer: its
  // own index, until it is loaded beside its target: then the target's layer.
  int kv_source = 0;
  bool k_eq_v = false;  // V is the raw output of k_proj (no v_proj tensor)
  int d_ff = 0;         // width of the dense MLP
  int n_experts = 0;    // 0: no mixture of experts
  int n_experts_used = 0;
  int d_expert = 0;  // width of one expert
  bool operator==(const LayerConfig&) const = default;
};

// What makes a model an assistant: it has no K and V of its own and guesses, for another model,
// what comes next, from that one's K and V and its final state (Gemma 4's drafters). Then d_model,
// layers and all other fields are the assistant's own.
struct AssistantConfig {
  int target_width = 0;  // d_model of the other model; 0: this is no assistant
  // The head over clusters of the vocabulary: tokens of the best get logits. 0: all tokens do.
  int n_centroids = 0, n_centroids_used = 0;
  bool operator==(const AssistantConfig&) const = default;
};

struct ModelConfig {
  // "gemma4", "gemma3", "llama" or "qwen3": a label for people, never switched on.
  std::string family;
  int d_model = 0;
  int vocab_size = 0;
  int64_t max_context = 0;
  std::vector<LayerConfig> layers;

  int ple_width = 0;  // per-layer embedding width; 0: none

  float norm_eps = 1e-6f;
  bool norm_unit_offset = false;  // RMSNorm multiplies by 1 + w (Gemma 3) instead of w
  bool sandwich_norms = false;    // post_attention and post_feedforward norms on the branch outputs
  bool qk_norm = false;           // per-head RMSNorm on q and k before RoPE
  bool v_norm = false;            // weightless per-head RMSNorm on v
  bool layer_scalar = false;      // each layer's output is multiplied by a stored scalar

  float attention_scale = 1.0f;
  float embedding_scale = 1.0f;  // multiplies embedding rows, in float32
  float logit_softcap = 0.0f;    // c * tanh(x / c); 0: none
  Activation activation = Activation::kGeluTanh;
  bool tied_head = true;  // logits use embed_tokens; else lm_head.weight

  int32_t bos_id = -1, pad_id = -1;  // -1: none
  std::vector<int32_t> eos_ids;      // generation stops after any of these

  AssistantConfig assistant;

  int n_layers() const { return static_cast<int>(layers.size()); }
  bool is_assistant() const { return assistant.target_width > 0; }
  bool owns_kv(int layer) const { return !is_assistant() && layers[layer].kv_source == layer; }
  bool operator==(const ModelConfig&) const = default;
};

// Throws Error(kBadData) naming the field when a number is out of range or two contradict: sizes
// positive and below 2^24 (layers below 1024), n_heads divisible by n_kv_heads, even head_dim <=
// 1024, kv_source an earlier own-KV layer of the same kind, head_dim and kv heads, top-k <=
// experts, ...
void validate(const ModelConfig& config);

std::string to_json(const ModelConfig& config);             // stable: same config, same text
ModelConfig model_config_from_json(std::string_view json);  // validated; throws kBadData

}  // namespace lapidary
