// A sequence small enough to stand in a file of tests: one global and one sliding layer, packed
// from the first token on, its memory filled with a pattern.
#pragma once

#include <numeric>

#include "runtime/session_file.h"

namespace lapidary {

inline ModelConfig session_config() {
  ModelConfig config;
  config.vocab_size = 256;
  config.layers.resize(2);
  for (LayerConfig& layer : config.layers) {
    layer.head_dim = 8;
    layer.n_heads = layer.n_kv_heads = 1;
  }
  config.layers[1].attention = AttentionKind::kSliding;
  config.layers[1].window = 16;
  config.layers[1].kv_source = 1;
  return config;
}

inline std::unique_ptr<Sequence> session_sequence(int64_t capacity = 200, int batch = 8) {
  return std::make_unique<Sequence>(session_config(), capacity,
                                    *parse_kv({"k4v4", "0,0", "", "", false}), batch);
}

inline constexpr int64_t kSessionTokens = 70;

inline SessionState session_state() {
  SessionState state;
  state.model = "0123456789abcdef";
  state.tokens.resize(kSessionTokens);
  std::iota(state.tokens.begin(), state.tokens.end(), 1);
  state.pending = {7};
  return state;
}

inline void fill_session(Sequence& sequence) {
  uint8_t value = 0;
  for (const std::span<std::byte> piece : sequence.held_pieces(kSessionTokens))
    for (std::byte& byte : piece) byte = std::byte{value = uint8_t(value * 5 + 1)};
  sequence.advance(kSessionTokens);
}

}  // namespace lapidary
