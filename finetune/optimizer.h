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

#include "finetune/trainer.h"

namespace lapidary {

struct TrainedTensor {
  std::string name;  // "model.layers.0.self_attn.q_proj.a"
  at::Tensor value;  // a leaf that requires a gradient
  double rate_factor = 1.0;
  at::Tensor first_moment, second_moment;
};

class AdamW {
 public:
  AdamW(const TrainerOptions& options, std::vector<TrainedTensor> tensors);

  // The norm of all gradients together, before clipping; missing gradients count as zero.
  double gradient_norm() const;
  // Clips to options.clip_norm given that norm, steps, clears the gradients.
  void step(double learning_rate, double gradient_norm);
  void clear_gradients();

  std::vector<TrainedTensor>& tensors() { return tensors_; }
  int64_t steps_done() const { return steps_done_; }
  void set_steps_done(int64_t n) { steps_done_ = n; }

 private:
  TrainerOptions options_;
  std::vector<TrainedTensor> tensors_;
  int64_t steps_done_ = 0;
};

}  // namespace lapidary
