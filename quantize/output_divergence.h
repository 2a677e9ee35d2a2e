// How far a model's next-token distributions move when some of its weights change: mean KL
// divergence from the exact model over the whole vocabulary, in float activations.
//
// The exact model runs once over windows of text; its distributions and the residual stream before
// every layer are kept. A change in layer l then costs the layers from l on, not the whole model.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "formats/events.h"
#include "runtime/engine.h"

namespace lapidary {

// Windows of tokens, each at most kWindowTokens long with BOS in front.
using TokenWindows = std::vector<std::vector<int32_t>>;
inline constexpr int kWindowTokens = 256;

// About `n_tokens` of a text's tokens as whole windows, spread evenly over it; of every second
// window the `odd` or the even ones, so that two measurements share no token. Throws kBadData for
// fewer than two tokens.
TokenWindows windows_of_tokens(const ModelConfig& config, std::span<const int32_t> tokens,
                               int64_t n_tokens, bool odd);

class OutputDivergence {
 public:
  // Runs the model as it is now. Its weights may be exchanged afterwards (runtime/model_overlay.h).
  OutputDivergence(std::shared_ptr<const Model> model, const TokenWindows& windows, int n_threads,
                   const Events& events);
  ~OutputDivergence();

  int64_t n_tokens() const;
  // KL(exact || present), mean over tokens, in nats, when weights of layers from `first_layer` on
  // have changed (n_layers: only the head's; -1: anything). REQUIRES: calls by descending
  // first_layer, since each leaves its own K and V in the layers it computes.
  double kld(int first_layer);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
