// Which codes a KV cache stores and which tokens stay exact: what --kv and its relatives say.
//
// A packed cache keeps both ends of the context in 16 bits, a sink of first tokens and a tail of
// recent ones, and packs the rest by pages of 64. Which tokens a query reads packed depends on
// positions alone (packed_end), so prompt chunks, decode, prefix reuse and restarts agree.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/kv_code.h"
#include "formats/model_config.h"

namespace lapidary {

// How one layer that owns K and V stores its tokens; when packed, those between the exact ends.
struct KvLayerCode {
  KvCode keys = KvCode::kBF16, values = KvCode::kBF16;
  // Only V is stored and K = RoPE(w_k * V) is rebuilt from it; keys == values. k_eq_v layers only.
  bool v_only = false;

  bool packed() const { return is_packed(values); }  // both sides are, or neither
  bool operator==(const KvLayerCode&) const = default;
};

// Tokens kept in 16 bits, multiples of kPageTokens.
struct ExactEnds {
  int sink = 64, tail = 256;
  bool operator==(const ExactEnds&) const = default;
};

// A query at position t reads packed exactly the tokens in [ends.sink, packed_end(ends, t)).
inline int64_t packed_end(const ExactEnds& ends, int64_t t) {
  const int64_t end = t / kPageTokens * kPageTokens - ends.tail;
  return end > ends.sink ? end : ends.sink;
}

// Tokens that can always be taken back exactly, beyond those the queries themselves read.
inline constexpr int kRollbackTokens = 64;

struct KvOptions {
  KvOptions() = default;
  KvOptions(KvCode both);  // NOLINT: one float code for all layers, f32 or bf16

  KvLayerCode global;                 // layers that see the whole context
  KvLayerCode sliding;                // layers with a window: 16 bits, or 8
  std::optional<KvLayerCode> k_eq_v;  // global k_eq_v layers; unset: as `global`
  bool needs_k_eq_v = false;          // asked for by name: a model without such layers is an error
  // One entry per layer, those without own K and V unused; empty: by the three above.
  std::vector<KvLayerCode> layers;
  ExactEnds ends;

  bool operator==(const KvOptions&) const = default;
};

// Dims of a head that RoPE turns: whole pairs (i, i + head_dim / 2).
int rotary_dims(const LayerConfig& layer);
// K = RoPE(w_k * V) on this layer, and heads have dims that do not turn: V alone may be stored.
bool can_store_v_only(const ModelConfig& config, int layer);

// The code of a layer under these options. REQUIRES: options checked for this config.
KvLayerCode layer_code(const ModelConfig& config, const KvOptions& options, int layer);
// Tokens of a layer that stay exact: sliding layers have no sink, it leaves their window.
ExactEnds layer_ends(const ModelConfig& config, const KvOptions& options, int layer);
// Throws kUsage when the options do not fit the model: V-only where K is not K = RoPE(w_k * V), a
// list of another length, a code that sliding layers do not take, ends that are no whole pages.
void check_kv(const ModelConfig& config, const KvOptions& options);

// What a command line says; empty text: not given.
struct KvText {
  std::string kv, exact, sliding, global;
  bool force = false;
};
// f32, off (bf16) or kXvY with X, Y of 8, 4, 3; a side of V with more bits than K needs `force`.
// exact "SINK,TAIL"; sliding "off" or "k8v8"; global "v8", "v5", "v4" or "separate": unless it says
// so, k8v8 stores k_eq_v global layers of `config` as v8 and lower codes as v5.
// Returns nothing when no option is given: the model's own choice. Throws kUsage.
std::optional<KvOptions> parse_kv(const KvText& text);

// The options of one code alone.
inline KvOptions parse_kv_code(std::string_view code) {
  return *parse_kv({std::string(code), "", "", "", false});
}

// "off", "f32", "k8v4", "v5".
std::string kv_name(const KvLayerCode& code);
// Throws kUsage for a name that kv_name() does not give.
KvLayerCode kv_layer_code(std::string_view name);
// Everything, in one line, equal exactly when the options are: "k4v4 exact 64,256 k_eq_v v5".
std::string describe(const KvOptions& options);

}  // namespace lapidary
