// One AdamW step.
#include "finetune/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace lapidary {

namespace {

// Smaller tensors keep floats: they weigh nothing, and DoRA's magnitudes are among them.
constexpr int64_t kLeastEightBit = 4096;

}  // namespace

at::Tensor moment_of(const TrainedTensor& tensor, const Moment& moment) {
  if (moment.floats.defined()) return moment.floats;
  at::Tensor values = at::empty(tensor.value.sizes(), at::kFloat);
  float* out = values.data_ptr<float>();
  const int64_t n = values.numel();
  for (int64_t first = 0; first < n; first += EightBitMoments::kBlock)
    moment.small.read(
        first / EightBitMoments::kBlock,
        {out + first, static_cast<size_t>(std::min(EightBitMoments::kBlock, n - first))});
  return values;
}

void set_moment(Moment& moment, const at::Tensor& values) {
  if (moment.floats.defined()) {
    moment.floats.copy_(values);
    return;
  }
  const float* in = values.data_ptr<float>();
  const int64_t n = values.numel();
  for (int64_t first = 0; first < n; first += EightBitMoments::kBlock)
    moment.small.write(
        first / EightBitMoments::kBlock,
        {in + first, static_cast<size_t>(std::min(EightBitMoments::kBlock, n - first))});
}

AdamW::AdamW(const TrainerOptions& options, std::vector<TrainedTensor> tensors)
    : options_(options), tensors_(std::move(tensors)) {
  for (TrainedTensor& t : tensors_) {
    if (options_.adam_8bit && t.value.numel() >= kLeastEightBit) {
      t.first_moment.small = EightBitMoments(t.value.numel(), /*is_signed=*/true);
      t.second_moment.small = EightBitMoments(t.value.numel(), /*is_signed=*/false);
      continue;
    }
    t.first_moment.floats = at::zeros_like(t.value.detach());
    t.second_moment.floats = at::zeros_like(t.value.detach());
  }
}

int64_t AdamW::state_bytes() const {
  int64_t n = 0;
  for (const TrainedTensor& t : tensors_)
    for (const Moment* m : {&t.first_moment, &t.second_moment})
      n += m->floats.defined() ? m->floats.numel() * 4 : m->small.bytes();
  return n;
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
    const Rates rates{learning_rate * t.rate_factor, correction1, correction2};
    if (options_.weight_decay > 0) t.value.mul_(1 - rates.rate * options_.weight_decay);
    if (t.first_moment.floats.defined())
      step_floats(t, g, rates);
    else
      step_eight_bits(t, g.contiguous(), rates);
  }
  clear_gradients();
}

void AdamW::step_floats(TrainedTensor& t, const at::Tensor& g, const Rates& rates) const {
  at::Tensor &first = t.first_moment.floats, &second = t.second_moment.floats;
  first.mul_(options_.beta1).add_(g, 1 - options_.beta1);
  second.mul_(options_.beta2).addcmul_(g, g, 1 - options_.beta2);
  const at::Tensor scale = second.sqrt().div_(std::sqrt(rates.correction2)).add_(options_.epsilon);
  t.value.addcdiv_(first, scale, -rates.rate / rates.correction1);
}

// The same on 256 values at a time; the step uses the moments before they are rounded.
void AdamW::step_eight_bits(TrainedTensor& t, const at::Tensor& g, const Rates& rates) const {
  constexpr int64_t kBlock = EightBitMoments::kBlock;
  const auto beta1 = static_cast<float>(options_.beta1), beta2 = static_cast<float>(options_.beta2);
  const auto root = static_cast<float>(1 / std::sqrt(rates.correction2));
  const auto epsilon = static_cast<float>(options_.epsilon);
  const auto rate = static_cast<float>(rates.rate / rates.correction1);
  const float* gradient = g.data_ptr<float>();
  float* value = t.value.data_ptr<float>();
  std::array<float, kBlock> first, second;
  for (int64_t begin = 0; begin < t.value.numel(); begin += kBlock) {
    const auto n = static_cast<size_t>(std::min(kBlock, t.value.numel() - begin));
    t.first_moment.small.read(begin / kBlock, {first.data(), n});
    t.second_moment.small.read(begin / kBlock, {second.data(), n});
    for (size_t i = 0; i < n; ++i) {
      const float d = gradient[begin + static_cast<int64_t>(i)];
      first[i] = beta1 * first[i] + (1 - beta1) * d;
      second[i] = beta2 * second[i] + (1 - beta2) * d * d;
      value[begin + static_cast<int64_t>(i)] -=
          rate * first[i] / (std::sqrt(second[i]) * root + epsilon);
    }
    t.first_moment.small.write(begin / kBlock, {first.data(), n});
    t.second_moment.small.write(begin / kBlock, {second.data(), n});
  }
}

void AdamW::clear_gradients() {
  for (TrainedTensor& t : tensors_) {
    if (t.shares_gradient)
      t.value.mutable_grad().zero_();
    else
      t.value.mutable_grad().reset();
  }
}

}  // namespace lapidary
