// The comparison, number by number.
#include "runtime/assistant_fit.h"

#include "formats/error.h"

namespace lapidary {
namespace {

const char* kind_name(AttentionKind kind) {
  return kind == AttentionKind::kSliding ? "sliding" : "global";
}

[[noreturn]] void differs(const char* what, int64_t assistant, int64_t target) {
  fail(ErrorCode::kUsage, "an assistant of another model: {} is {} there and {} in the target",
       what, assistant, target);
}

void require_same(const char* what, int64_t assistant, int64_t target) {
  if (assistant != target) differs(what, assistant, target);
}

// -1: none.
int last_owner(const ModelConfig& target, AttentionKind kind) {
  for (int l = target.n_layers() - 1; l >= 0; --l)
    if (target.owns_kv(l) && target.layers[static_cast<size_t>(l)].attention == kind) return l;
  return -1;
}

}  // namespace

ModelConfig beside_target(const ModelConfig& assistant, const ModelConfig& target) {
  if (!assistant.is_assistant())
    fail(ErrorCode::kUsage,
         "not an assistant but a whole model; --draft-model takes what convert makes of a "
         "Gemma4AssistantForCausalLM");
  require_same("the target's d_model", assistant.assistant.target_width, target.d_model);
  require_same("vocab_size", assistant.vocab_size, target.vocab_size);
  ModelConfig config = assistant;
  for (LayerConfig& layer : config.layers) {
    const int source = last_owner(target, layer.attention);
    if (source < 0)
      fail(ErrorCode::kUsage, "an assistant of another model: the target has no {} layers",
           kind_name(layer.attention));
    const LayerConfig& kv = target.layers[static_cast<size_t>(source)];
    require_same("head_dim", layer.head_dim, kv.head_dim);
    require_same("window", layer.window, kv.window);
    require_same("n_kv_heads", layer.n_kv_heads, kv.n_kv_heads);
    if (layer.rope != kv.rope)
      fail(ErrorCode::kUsage,
           "an assistant of another model: RoPE of its {} layers is not the target's",
           kind_name(layer.attention));
    layer.kv_source = source;
    layer.k_eq_v = kv.k_eq_v;
  }
  return config;
}

void check_same_tokens(const Tokenizer& assistant, const Tokenizer& target) {
  require_same("the tokenizer's size", assistant.vocab_size(), target.vocab_size());
  for (int64_t i = 0; i < target.vocab_size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (assistant.piece(id) != target.piece(id))
      fail(ErrorCode::kUsage,
           "an assistant of another model: token {} is \"{}\" there and \"{}\" in the target", id,
           assistant.piece(id), target.piece(id));
  }
}

}  // namespace lapidary
