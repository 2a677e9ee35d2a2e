// KL(base || tuned) over a large vocabulary, in chunks of tokens, with its gradient.
//
// On general data the tuned model is to go on saying what the base says. The base is the same model
// without its adapter, so its logits come from its hidden states through the same frozen head, and
// exist only for the chunk at hand.
#pragma once

#include <ATen/core/Tensor.h>

#include "finetune/head_loss.h"

namespace lapidary {

// `weight` times the sum over tokens of KL(base || tuned): a float32 scalar with a gradient for
// `hidden`. Both states are [n_tokens, d_model], after the final norm.
at::Tensor head_kl(const HeadView& head, const at::Tensor& hidden, const at::Tensor& base_hidden,
                   double weight);

}  // namespace lapidary
