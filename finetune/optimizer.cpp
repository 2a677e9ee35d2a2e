// One AdamW step.
#include "finetune/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace lapidary {

AdamW::AdamW(const TrainerOptions& options, std::vector<TrainedTensor> tensors)
    : options_(options), tensors_(std::move(tensors)) {
  for (TrainedTensor& t : tensors_) {
    t.first_moment = at::zeros_like(t.value.detach());
    t.second_moment = at::zeros_like(t.value.detach());
  }
}

double AdamW::gradient_norm() const {
  double sum = 0;
  for (const TrainedTensor& t : tensors_)
    if (t.value.grad().defined()) sum += t.value.grad().square().sum(at::kDouble).item<double>();
  return std::sqrt(sum);
}

void AdamW::step(double learning_rate, double gradient_norm) {
  const at::NoGradGuard no_grad;
  ++steps_done_;
  // The small constant keeps the ratio defined, as in torch.nn.utils.clip_grad_norm_.
  const double clip =
      options_.clip_norm > 0 ? std::min(1.0, options_.clip_norm / (gradient_norm + 1e-6)) : 1.0;
  const double n = static_cast<double>(steps_done_);
  const double correction1 = 1 - std::pow(options_.beta1, n);
  const double correction2 = 1 - std::pow(options_.beta2, n);
  for (TrainedTensor& t : tensors_) {
    const at::Tensor& g = t.value.grad();
    if (!g.defined()) continue;
    if (clip < 1) g.mul_(clip);
    const double rate = learning_rate * t.rate_factor;
    if (options_.weight_decay > 0) t.value.mul_(1 - rate * options_.weight_decay);
    t.first_moment.mul_(options_.beta1).add_(g, 1 - options_.beta1);
    t.second_moment.mul_(options_.beta2).addcmul_(g, g, 1 - options_.beta2);
    const at::Tensor scale =
        t.second_moment.sqrt().div_(std::sqrt(correction2)).add_(options_.epsilon);
    t.value.addcdiv_(t.first_moment, scale, -rate / correction1);
  }
  clear_gradients();
}

void AdamW::clear_gradients() {
  for (TrainedTensor& t : tensors_) t.value.mutable_grad().reset();
}

}  // namespace lapidary
