// The Fisher information's diagonal, for the quantizer: how much the model's predictions move when
// a weight does.
//
//   KL(p_w || p_(w+D)) = D^T F D / 2 + O(D^3),   F = E_x E_(y ~ p_w) [g g^T],  g = d log
//   p_w(y|x)/dw
//
// Labels are drawn from the model, not taken from the text: only then is F the curvature of the
// divergence. With the text's own labels ("empirical Fisher") it is that of another loss, and large
// where the model is surprised, whatever the weight does (Kunstner, Hennig, Balles, NeurIPS 2019).
// Labels of a window are drawn independently, so products of different positions' gradients vanish
// in the mean and the square of a window's summed gradient has the mean of the sum of squares: one
// backward pass per window serves all of its tokens. Rounding errors are all but uncorrelated, so
// the diagonal is what their expected cost needs (LeCun, Denker, Solla 1989). No LibTorch here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "formats/events.h"
#include "formats/fisher.h"
#include "runtime/model.h"

namespace lapidary {

struct FisherOptions {
  std::vector<int32_t> tokens;  // text, without BOS
  int64_t n_tokens = 16384;     // the first so many of them are used
  int64_t window = 512;         // tokens of a window, BOS included
  uint64_t seed = 0;            // of the labels drawn
  int n_threads = 0;
};

// Every matrix of the model, experts and embeddings included; float or packed. Throws kUsage for
// numbers out of range, kBadData for an empty text or a token outside the vocabulary.
FisherStatistics measure_fisher(std::shared_ptr<const Model> model, const FisherOptions& options,
                                const Events& events);

}  // namespace lapidary
