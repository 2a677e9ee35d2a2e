// Every tensor the description needs, found by its canonical name and checked.
#include "runtime/model_loader.h"

#include "formats/token_ordering.h"

namespace lapidary {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

void ModelLoader::load() {
  const ModelConfig& config = model_.config();
  const int64_t d_model = config.d_model, vocab = config.vocab_size;
  matrix("model.embed_tokens", vocab, d_model, model_.embedding);
  model_.head = model_.embedding;
  if (!config.tied_head) matrix("lm_head", vocab, d_model, model_.head);
  model_.final_norm = floats("model.norm.weight", d_model);
  if (config.ple_width > 0) load_ple();
  if (config.is_assistant()) load_assistant();
  model_.layers.resize(config.layers.size());
  for (int l = 0; l < config.n_layers(); ++l) load_layer(l);
}

void ModelLoader::load_ple() {
  const ModelConfig& config = model_.config();
  const int64_t width = int64_t{config.n_layers()} * config.ple_width;
  const LapTensor& table = take("model.embed_tokens_per_layer.weight", {config.vocab_size, width});
  if (table.layout != Layout::kRowTable || table.record_width != config.ple_width)
    bad(table.name, "is not a row table with records of {} values; convert the model again",
        config.ple_width);
  model_.ple_table = &table;
  model_.ple_file = store_.file();
  model_.ple_geometry =
      row_table_geometry(table.code, config.vocab_size, config.n_layers(), config.ple_width);
  matrix("model.per_layer_model_projection", width, config.d_model, model_.ple_model_projection);
  model_.ple_projection_norm = floats("model.per_layer_projection_norm.weight", config.ple_width);
}

void ModelLoader::load_assistant() {
  const ModelConfig& config = model_.config();
  const int64_t d_model = config.d_model, target = config.assistant.target_width;
  AssistantWeights& w = model_.assistant;
  matrix("pre_projection", d_model, 2 * target, w.pre_projection);
  matrix("post_projection", target, d_model, w.post_projection);
  if (config.assistant.n_centroids == 0) return;
  matrix("masked_embedding.centroids", config.assistant.n_centroids, d_model, w.centroids);
  const std::string name = "masked_embedding.token_ordering";
  const std::vector<float> order = floats(name, config.vocab_size);
  w.token_ordering = with_context(store_.describe() + ": tensor " + name,
                                  [&] { return token_ordering_from(order, config.vocab_size); });
}

void ModelLoader::load_layer(int index) {
  const ModelConfig& config = model_.config();
  const LayerConfig& shape = config.layers[index];
  LayerWeights& w = model_.layers[index];
  const std::string at = fmt::format("model.layers.{}.", index);
  const int64_t d_model = config.d_model, head_dim = shape.head_dim;
  const int64_t q_width = shape.n_heads * head_dim, kv_width = shape.n_kv_heads * head_dim;
  const auto norm = [&](const char* name) { return floats(at + name + ".weight", d_model); };

  w.input_norm = norm("input_layernorm");
  if (config.sandwich_norms) {
    w.post_attention_norm = norm("post_attention_layernorm");
    w.pre_ff_norm = norm("pre_feedforward_layernorm");
    w.post_ff_norm = norm("post_feedforward_layernorm");
  } else {
    w.pre_ff_norm = norm("post_attention_layernorm");
  }

  matrix(at + "self_attn.q_proj", q_width, d_model, w.q);
  matrix(at + "self_attn.o_proj", d_model, q_width, w.o);
  if (config.qk_norm) w.q_norm = floats(at + "self_attn.q_norm.weight", head_dim);
  if (config.owns_kv(index)) {
    matrix(at + "self_attn.k_proj", kv_width, d_model, w.k);
    if (!shape.k_eq_v) matrix(at + "self_attn.v_proj", kv_width, d_model, w.v);
    if (config.qk_norm) w.k_norm = floats(at + "self_attn.k_norm.weight", head_dim);
  }

  matrix(at + "mlp.gate_proj", shape.d_ff, d_model, w.gate);
  matrix(at + "mlp.up_proj", shape.d_ff, d_model, w.up);
  matrix(at + "mlp.down_proj", d_model, shape.d_ff, w.down);
  if (config.layer_scalar) w.scalar = floats(at + "layer_scalar", 1)[0];

  if (shape.n_experts > 0) {
    w.post_ff_norm_1 = norm("post_feedforward_layernorm_1");
    w.post_ff_norm_2 = norm("post_feedforward_layernorm_2");
    w.pre_ff_norm_2 = norm("pre_feedforward_layernorm_2");
    matrix(at + "router.proj", shape.n_experts, d_model, w.router);
    w.router_scale = floats(at + "router.scale", d_model);
    w.per_expert_scale = floats(at + "router.per_expert_scale", shape.n_experts);
    const int64_t d_expert = shape.d_expert;
    stack(at + "experts.gate_up_proj", shape.n_experts, 2 * d_expert, d_model, w.expert_gate_up);
    stack(at + "experts.down_proj", shape.n_experts, d_model, d_expert, w.expert_down);
  }
  if (config.ple_width > 0) {
    matrix(at + "per_layer_input_gate", config.ple_width, d_model, w.ple_gate);
    matrix(at + "per_layer_projection", d_model, config.ple_width, w.ple_projection);
    w.post_ple_norm = norm("post_per_layer_input_norm");
  }
}

const LapTensor& ModelLoader::take(const std::string& name, const std::vector<int64_t>& shape) {
  const LapTensor* tensor = store_.find(name);
  if (!tensor) bad(name, "is missing; the file does not hold the model its config describes");
  if (tensor->shape != shape)
    bad(name, "has shape {}, expected {}", shape_text(tensor->shape), shape_text(shape));
  taken_.insert(name);
  return *tensor;
}

std::vector<float> ModelLoader::floats(const std::string& name, int64_t size) {
  const LapTensor& tensor = take(name, {size});
  if (tensor.layout != Layout::kPlain || !traits(tensor.code).is_float)
    bad(name, "has code {}, expected a float code", code_name(tensor.code));
  return store_.floats(tensor);
}

// `module` + ".weight", as a matrix; `out` becomes the module's view.
void ModelLoader::matrix(const std::string& module, int64_t rows, int64_t k, MatrixView& out) {
  const LapTensor& tensor = take(module + ".weight", {rows, k});
  check_matrix(tensor);
  out = store_.matrix(tensor, 0);
  model_.matrices_.emplace(module, &out);
}

void ModelLoader::stack(const std::string& name, int64_t n_experts, int64_t rows, int64_t k,
                        std::vector<MatrixView>& out) {
  const LapTensor& tensor = take(name, {n_experts, rows, k});
  check_matrix(tensor);
  out.clear();
  for (int64_t e = 0; e < n_experts; ++e) out.push_back(store_.matrix(tensor, e));
  model_.stacks_.emplace(name, &out);
}

void ModelLoader::check_matrix(const LapTensor& tensor) const {
  if (tensor.layout == Layout::kRowTable)
    bad(tensor.name, "is a row table, expected a matrix; convert the model again");
}

}  // namespace lapidary
