// The ranges that the code relies on, checked once, so that nothing later has to doubt a config,
// whatever file it came from. The limits lie well above any published model.
#include <cmath>

#include "formats/error.h"
#include "formats/model_config.h"

namespace lapidary {
namespace {

constexpr int kMaxWidth = 1 << 24;  // of any dimension: keeps products of two below 2^48
constexpr int kMaxLayers = 1024;
constexpr int kMaxHeadDim = 1024;
constexpr int kMaxHeads = 4096;
constexpr int kMaxExperts = 1 << 16;

void require(bool claim, const std::string& field, const std::string& found,
             const std::string& expected) {
  if (!claim)
    fail(ErrorCode::kBadData, "model config: {} is {}, expected {}", field, found, expected);
}

void require_range(int64_t value, int64_t low, int64_t high, const std::string& field) {
  require(value >= low && value <= high, field, std::to_string(value),
          fmt::format("{} to {}", low, high));
}

void require_positive(double value, const std::string& field) {
  require(std::isfinite(value) && value > 0, field, fmt::format("{}", value), "a positive number");
}

void validate_rope(const RopeConfig& r, const std::string& where) {
  require_positive(r.theta, where + ".theta");
  require_positive(r.factor, where + ".factor");
  require(r.rotated_fraction > 0 && r.rotated_fraction <= 1, where + ".rotated_fraction",
          fmt::format("{}", r.rotated_fraction), "above 0 and at most 1");
  if (r.kind != RopeKind::kLlama3) {
    const RopeConfig plain;
    require(r.low_freq_factor == plain.low_freq_factor &&
                r.high_freq_factor == plain.high_freq_factor &&
                r.original_context == plain.original_context,
            where, "not llama3", "no low_freq_factor, high_freq_factor and original_context");
    return;
  }
  require_positive(r.low_freq_factor, where + ".low_freq_factor");
  require_positive(r.high_freq_factor, where + ".high_freq_factor");
  require(r.high_freq_factor > r.low_freq_factor, where + ".high_freq_factor",
          fmt::format("{}", r.high_freq_factor), "more than low_freq_factor");
  require_range(r.original_context, 1, int64_t{1} << 40, where + ".original_context");
}

void validate_layer(const ModelConfig& config, int index) {
  const LayerConfig& l = config.layers[index];
  const std::string where = fmt::format("layer {}", index);
  require_range(l.head_dim, 2, kMaxHeadDim, where + ".head_dim");
  require(l.head_dim % 2 == 0, where + ".head_dim", std::to_string(l.head_dim), "an even number");
  require_range(l.n_heads, 1, kMaxHeads, where + ".n_heads");
  require_range(l.n_kv_heads, 1, l.n_heads, where + ".n_kv_heads");
  require(l.n_heads % l.n_kv_heads == 0, where + ".n_heads", std::to_string(l.n_heads),
          fmt::format("a multiple of n_kv_heads ({})", l.n_kv_heads));
  if (l.attention == AttentionKind::kSliding)
    require_range(l.window, 1, kMaxWidth, where + ".window");
  else
    require(l.window == 0, where + ".window", std::to_string(l.window), "0 on a global layer");
  require_range(l.d_ff, 1, kMaxWidth, where + ".d_ff");
  validate_rope(l.rope, where + ".rope");

  require_range(l.kv_source, config.is_assistant() ? index : 0, index, where + ".kv_source");
  const LayerConfig& source = config.layers[l.kv_source];
  require(source.kv_source == l.kv_source, where + ".kv_source", std::to_string(l.kv_source),
          "a layer with K and V of its own");
  require(source.attention == l.attention && source.window == l.window &&
              source.head_dim == l.head_dim && source.n_kv_heads == l.n_kv_heads,
          where + ".kv_source", std::to_string(l.kv_source),
          "a layer with the same attention, window, head_dim and n_kv_heads");

  require_range(l.n_experts, 0, kMaxExperts, where + ".n_experts");
  const bool has_experts = l.n_experts > 0;
  require_range(l.n_experts_used, has_experts ? 1 : 0, l.n_experts, where + ".n_experts_used");
  // All experts of a layer are one tensor, so its rows are bounded like any other dimension.
  const int widest = has_experts ? kMaxWidth / l.n_experts : 0;
  require_range(l.d_expert, has_experts ? 1 : 0, widest, where + ".d_expert");
}

// A mixture of experts or per-layer embeddings in an assistant: nobody has made one.
void validate_assistant(const ModelConfig& c) {
  const AssistantConfig& a = c.assistant;
  require_range(a.target_width, 0, kMaxWidth, "assistant.target_width");
  require_range(a.n_centroids, 0, c.is_assistant() ? c.vocab_size : 0, "assistant.n_centroids");
  require_range(a.n_centroids_used, a.n_centroids > 0 ? 1 : 0, a.n_centroids,
                "assistant.n_centroids_used");
  if (!c.is_assistant()) return;
  if (a.n_centroids > 0)
    require(c.vocab_size % a.n_centroids == 0, "assistant.n_centroids",
            std::to_string(a.n_centroids), fmt::format("a divisor of {} tokens", c.vocab_size));
  require_range(c.ple_width, 0, 0, "ple_width of an assistant");
  for (const LayerConfig& layer : c.layers)
    require_range(layer.n_experts, 0, 0, "n_experts of an assistant");
}

}  // namespace

void validate(const ModelConfig& c) {
  require_range(c.d_model, 1, kMaxWidth, "d_model");
  require_range(c.vocab_size, 1, kMaxWidth, "vocab_size");
  require_range(c.max_context, 1, int64_t{1} << 40, "max_context");
  require_range(c.n_layers(), 1, kMaxLayers, "number of layers");
  require_range(c.ple_width, 0, kMaxWidth / kMaxLayers, "ple_width");
  require_positive(c.norm_eps, "norm_eps");
  require_positive(c.attention_scale, "attention_scale");
  require_positive(c.embedding_scale, "embedding_scale");
  require(std::isfinite(c.logit_softcap) && c.logit_softcap >= 0, "logit_softcap",
          fmt::format("{}", c.logit_softcap), "0 or a positive number");
  require_range(c.bos_id, -1, c.vocab_size - 1, "bos_id");
  require_range(c.pad_id, -1, c.vocab_size - 1, "pad_id");
  for (const int32_t id : c.eos_ids) require_range(id, 0, c.vocab_size - 1, "eos_ids");
  for (int i = 0; i < c.n_layers(); ++i) validate_layer(c, i);
  validate_assistant(c);
}

}  // namespace lapidary
