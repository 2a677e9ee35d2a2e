// config.json of each published shape. Source: the models' own config.json files.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "convert/synthetic.h"
#include "formats/error.h"

namespace lapidary {
namespace {

struct Shape {
  const char* name;
  int n_layers, period;  // every period-th layer is global
  int d_model, d_ff, n_heads, n_kv_heads, n_global_kv_heads, window;
  int n_sharing_kv;  // last layers that read an earlier layer's K and V
  bool double_wide;  // ... and have twice the MLP width
  int ple_width;
  bool k_eq_v;
  int n_experts, n_experts_used, d_expert;
  int max_context;
};

constexpr Shape kShapes[] = {
    {"e2b", 35, 5, 1536, 6144, 8, 1, 1, 512, 20, true, 256, false, 0, 0, 0, 131072},
    {"e4b", 42, 6, 2560, 10240, 8, 2, 2, 512, 18, false, 256, false, 0, 0, 0, 131072},
    {"26b-a4b", 30, 6, 2816, 2112, 16, 8, 2, 1024, 0, false, 0, true, 128, 8, 704, 262144},
    {"31b", 60, 6, 5376, 21504, 32, 16, 4, 1024, 0, false, 0, true, 0, 0, 0, 262144},
};
constexpr int kHeadDim = 256, kGlobalHeadDim = 512;

const Shape& find_shape(const std::string& name) {
  for (const Shape& shape : kShapes)
    if (name == shape.name) return shape;
  std::string known;
  for (const std::string& each : synthetic_shapes()) known += (known.empty() ? "" : ", ") + each;
  fail(ErrorCode::kUsage, "synthetic shape '{}': expected one of {}", name, known);
}

}  // namespace

std::vector<std::string> synthetic_shapes() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

std::string synthetic_config(const SyntheticModel& model) {
  const Shape& shape = find_shape(model.shape);
  if (model.vocab_size < 320 || model.vocab_size > 262144)
    fail(ErrorCode::kUsage, "vocabulary of {}: expected 320 to 262144", model.vocab_size);
  if (model.n_layers < 0 || model.n_layers > shape.n_layers)
    fail(ErrorCode::kUsage, "{} layers of {}: it has {}", model.n_layers, shape.name,
         shape.n_layers);
  int n_layers = shape.n_layers, n_sharing = shape.n_sharing_kv;
  if (model.n_layers > 0 && model.n_layers < shape.n_layers) {
    const int n_periods = (model.n_layers + shape.period - 1) / shape.period;
    n_layers = std::min(shape.n_layers, n_periods * shape.period);
    // Whole periods share; two keep their own as long as there are that many.
    n_sharing = std::min(n_sharing, std::max(0, n_periods - 2) * shape.period);
  }
  nlohmann::ordered_json json{
      {"model_type", "gemma4_text"},
      {"vocab_size", model.vocab_size},
      {"vocab_size_per_layer_input", model.vocab_size},
      {"hidden_size", shape.d_model},
      {"intermediate_size", shape.d_ff},
      {"num_hidden_layers", n_layers},
      {"num_attention_heads", shape.n_heads},
      {"num_key_value_heads", shape.n_kv_heads},
      {"num_global_key_value_heads", shape.n_global_kv_heads},
      {"head_dim", kHeadDim},
      {"global_head_dim", kGlobalHeadDim},
      {"sliding_window", shape.window},
      {"num_kv_shared_layers", n_sharing},
      {"use_double_wide_mlp", shape.double_wide},
      {"attention_k_eq_v", shape.k_eq_v},
      {"hidden_size_per_layer_input", shape.ple_width},
      {"max_position_embeddings", shape.max_context},
      {"rms_norm_eps", 1e-6},
      {"final_logit_softcapping", 30.0},
      {"hidden_activation", "gelu_pytorch_tanh"},
      {"tie_word_embeddings", true},
      {"pad_token_id", 0},
      {"bos_token_id", 2},
  };
  if (shape.n_experts > 0) {
    json["enable_moe_block"] = true;
    json["num_experts"] = shape.n_experts;
    json["top_k_experts"] = shape.n_experts_used;
    json["moe_intermediate_size"] = shape.d_expert;
  }
  for (int i = 0; i < n_layers; ++i)
    json["layer_types"].push_back((i + 1) % shape.period == 0 ? "full_attention"
                                                              : "sliding_attention");
  json["rope_parameters"]["sliding_attention"] = {{"rope_type", "default"},
                                                  {"rope_theta", 10000.0}};
  json["rope_parameters"]["full_attention"] = {
      {"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}, {"rope_theta", 1000000.0}};
  return json.dump();
}

}  // namespace lapidary
