// Cross-entropy over a large vocabulary without holding all logits.
//
// [n_tokens, 262144] floats of one long row would be gigabytes. Tokens are taken in chunks; loss
// and the gradient of the hidden states come out of the same chunk of logits, in the forward pass,
// since all that can still follow is a scalar factor. The head is frozen, so it needs no gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include "finetune/frozen_weights.h"

namespace lapidary {

struct HeadView {
  FrozenWeights& weights;
  const MatrixView& matrix;  // [vocab, d_model]
  double softcap;            // c tanh(z / c); 0: none
};

// What a gradient of logits after the soft-cap is multiplied by to become `weight` times that of
// raw logits: with z = c tanh(u / c), dz/du = 1 - (z / c)^2. Made of z [vocab] before z is used up.
class CapSlope {
 public:
  CapSlope(double softcap, const at::Tensor& z, double weight);
  void multiply(at::Tensor gradient) const;  // in place

 private:
  at::Tensor slope_;  // undefined: no soft-cap
  double weight_;
};

// Logits [n_tokens, vocab] after the soft-cap, without gradient: for tests, probes, measures.
at::Tensor head_logits(const HeadView& head, const at::Tensor& hidden);

// `weight` times the sum over tokens of -log p(target): a float32 scalar with a gradient for
// `hidden` [n_tokens, d_model]. targets int64 [n_tokens], within the vocabulary.
at::Tensor head_cross_entropy(const HeadView& head, const at::Tensor& hidden,
                              const at::Tensor& targets, double weight);

}  // namespace lapidary
