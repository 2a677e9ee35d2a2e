// AdamW over adapter tensors, gradient clipping, and learning-rate schedules.
//
// Written out (ten lines of arithmetic) rather than taken from torch::optim, so that its state is
// plain tensors that a checkpoint can store and restore to the bit. Loshchilov & Hutter 2019; LoRA+
// (Hayou et al. 2024) is a larger learning rate for B.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "finetune/adam_state.h"
#include "finetune/trainer.h"

namespace lapidary {

// One moment of one tensor, in floats or in eight bits.
struct Moment {
  at::Tensor floats;  // undefined: eight bits
  EightBitMoments small;
};

struct TrainedTensor {
  std::string name;  // "model.layers.0.self_attn.q_proj.a"
  at::Tensor value;  // a leaf that requires a gradient
  double rate_factor = 1.0;
  bool shares_gradient = false;  // others write into it: it is cleared in place
  Moment first_moment = {}, second_moment = {};
};

// A moment as floats in the tensor's shape (its own when it has them), and back.
at::Tensor moment_of(const TrainedTensor& tensor, const Moment& moment);
void set_moment(Moment& moment, const at::Tensor& values);

class AdamW {
 public:
  AdamW(const TrainerOptions& options, std::vector<TrainedTensor> tensors);

  // The norm of all gradients together, before clipping; missing gradients count as zero.
  double gradient_norm() const;
  // Clips to options.clip_norm given that norm, steps, clears the gradients.
  void step(double learning_rate, double gradient_norm);
  void clear_gradients();
  int64_t state_bytes() const;  // of the moments

  std::vector<TrainedTensor>& tensors() { return tensors_; }
  int64_t steps_done() const { return steps_done_; }
  void set_steps_done(int64_t n) { steps_done_ = n; }

 private:
  struct Rates {  // of one step
    double rate, correction1, correction2;
  };
  void step_floats(TrainedTensor& tensor, const at::Tensor& gradient, const Rates& rates) const;
  void step_eight_bits(TrainedTensor& tensor, const at::Tensor& gradient, const Rates& rates) const;

  TrainerOptions options_;
  std::vector<TrainedTensor> tensors_;
  int64_t steps_done_ = 0;
};

}  // namespace lapidary
