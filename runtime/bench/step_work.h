// What one step of the engine has to move and to multiply at least, by counting: the numerators of
// the shares that `bench` prints.
#pragma once

#include <cstdint>

#include "runtime/kv_plan.h"
#include "runtime/model.h"

namespace lapidary {

struct StepWork {
  double bytes = 0;          // read from memory: weights with scales, KV cache, embedding rows
  double multiply_adds = 0;  // of the linear layers
  StepWork& operator+=(const StepWork& other) {
    bytes += other.bytes;
    multiply_adds += other.multiply_adds;
    return *this;
  }
};

// A step of `n_tokens` at positions first_position ..., `n_wanted` of them with logits. Weights
// count once per step, however many tokens share them; each visible key and value counts once per
// step; of experts the number that random choices are expected to meet. Work that nobody needs
// (layers that share K and V, on tokens without logits) does not count.
StepWork step_work(const Model& model, const KvOptions& kv, int64_t first_position,
                   int64_t n_tokens, int64_t n_wanted);

}  // namespace lapidary
