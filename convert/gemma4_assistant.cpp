// Gemma 4's assistants: drafters of four layers for E2B, E4B, 12B, 26B-A4B and 31B.
//
// The layers are Gemma 4's without K and V, which are the target's. The input is the target's
// embedding of the last token beside a state as wide as the target, through pre_projection;
// post_projection makes the next such state. Those of E models have a head over clusters of the
// vocabulary. Source: transformers' Gemma4AssistantForCausalLM.
#include "convert/family.h"

namespace lapidary {
namespace {

AssistantConfig read_assistant(const ConfigReader& top) {
  // Values that a file leaves out are transformers' defaults.
  AssistantConfig assistant;
  assistant.target_width = top.size("backbone_hidden_size", 1536);
  const int n_centroids = top.size("num_centroids", 2048);
  const int n_used = top.size("centroid_intermediate_top_k", 32);
  if (!top.flag("use_ordered_embeddings", false)) return assistant;
  assistant.n_centroids = n_centroids;
  assistant.n_centroids_used = n_used;
  return assistant;
}

ModelConfig read_config(const ConfigReader& top) {
  refuse_common(top);
  const ConfigReader text = top.object("text_config");
  text.refuse("hidden_size_per_layer_input", "an assistant has no per-layer embeddings");
  text.refuse("enable_moe_block", "an assistant has no experts");
  text.refuse("use_double_wide_mlp", "an assistant's layers are alike");
  ModelConfig config = read_gemma4_text(text, read_assistant(top));
  config.logit_softcap = 0;  // its head has none, whatever the file says
  config.tied_head = top.flag("tie_word_embeddings", true);
  text.ignore({"model_type"});
  text.finish(ignored_keys());
  return config;
}

ExpectedTensors expected_tensors(const ModelConfig& config) {
  ExpectedTensors tensors = gemma4_tensors(config);
  const int64_t d = config.d_model, target = config.assistant.target_width;
  tensors.add("pre_projection.weight", {d, 2 * target});
  tensors.add("post_projection.weight", {target, d});
  if (config.assistant.n_centroids > 0) {
    tensors.add("masked_embedding.centroids.weight", {config.assistant.n_centroids, d});
    tensors.add("masked_embedding.token_ordering", {config.vocab_size});
    tensors.integers.insert("masked_embedding.token_ordering");
  }
  return tensors;
}

}  // namespace

const Family& gemma4_assistant_family() {
  static const Family family{
      "gemma4", {"gemma4_assistant", "gemma4_unified_assistant"}, read_config, expected_tensors};
  return family;
}

}  // namespace lapidary
