// KL(base || tuned) over a large vocabulary, in chunks of tokens, with its gradient.
//
// On general data, and on the prompts of domain data, the tuned model is to go on saying what the
// base says. The base is the same model without its adapter, so its logits come from its hidden
// states through the same frozen head, and exist only for the chunk at hand. The divergence is that
// of whole distributions at every token, prompts and answers alike: a thousand times more to hold
// on to than the one token that a text happens to go on with.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "finetune/head_loss.h"
#include "finetune/token_row.h"

namespace lapidary {

// What one kept token of each kind weighs; 0: its kind is not kept.
struct KeepWeights {
  double all = 0, prompt = 0;
  double of(Keep kind) const {
    return kind == Keep::kAll ? all : kind == Keep::kPrompt ? prompt : 0.0;
  }
};

// Tokens whose next one is learned, or kept with a weight; ascending.
std::vector<int64_t> measured_tokens(const TokenRow& row, const KeepWeights& weights);

struct KeepLoss {
  at::Tensor loss;  // sum of weight * KL, float32 with a gradient; undefined: nothing is kept
  double kl = 0;    // sum of KL over Keep::kAll, unweighted, in nats
};

// Sum over tokens of weights[t] * KL(base || tuned): a float32 scalar with a gradient for `hidden`;
// the divergences themselves go to `kl`, [n_tokens]. Both states are [n_tokens, d_model], after the
// final norm.
at::Tensor head_kl(const HeadView& head, const at::Tensor& hidden, const at::Tensor& base_hidden,
                   std::span<const double> weights, std::vector<double>& kl);

}  // namespace lapidary
