// Chunks of tokens through the head: logits, soft-cap, log-sum-exp, gradient.
#include "finetune/head_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Bytes of one chunk's logits: 512 tokens at a vocabulary of 262,144. Each chunk dequantizes the
// whole head twice, so smaller chunks would spend their time there and not in the product.
constexpr int64_t kLogitBytes = int64_t{512} << 20;

int64_t chunk_tokens(const HeadView& head) {
  return std::max<int64_t>(16, kLogitBytes / static_cast<int64_t>(sizeof(float)) /
                                   head.matrix.rows / kRowMultiple * kRowMultiple);
}

at::Tensor raw_logits(const HeadView& head, const at::Tensor& hidden) {
  return head.weights.multiply(head.matrix, hidden);
}

void cap(const HeadView& head, at::Tensor z) {
  if (head.softcap > 0) z.div_(head.softcap).tanh_().mul_(head.softcap);
}

// Turns the raw logits of one token into weight * d(-log p(target)) / d(raw logits), in place, and
// gives -log p(target).
double loss_and_gradient(const HeadView& head, at::Tensor z, int64_t target, double weight) {
  cap(head, z);
  float* values = z.data_ptr<float>();
  const double log_sum = z.logsumexp(0).item<double>(), loss = log_sum - values[target];
  const CapSlope slope(head.softcap, z, weight);
  z.sub_(log_sum).exp_();
  values[target] -= 1;
  slope.multiply(z);
  return loss;
}

struct HeadLossFunction : torch::autograd::Function<HeadLossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& targets, int64_t head_address, double weight) {
    const auto& head = *reinterpret_cast<const HeadView*>(head_address);
    const int64_t chunk = chunk_tokens(head);
    const int64_t* target = targets.data_ptr<int64_t>();
    at::Tensor gradient = at::empty_like(hidden);
    std::vector<double> losses(static_cast<size_t>(hidden.size(0)));
    for (int64_t first = 0; first < hidden.size(0); first += chunk) {
      const int64_t n = std::min(chunk, hidden.size(0) - first);
      const at::Tensor z = raw_logits(head, hidden.narrow(0, first, n));
      head.weights.parallel(n, [&](int64_t t) {
        losses[static_cast<size_t>(first + t)] =
            loss_and_gradient(head, z.select(0, t), target[first + t], weight);
      });
      gradient.narrow(0, first, n).copy_(head.weights.multiply_transposed(head.matrix, z));
    }
    context->save_for_backward({gradient});
    const double loss = std::accumulate(losses.begin(), losses.end(), 0.0);
    return at::scalar_tensor(loss * weight, hidden.options());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {context->get_saved_variables()[0] * gradients[0], at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

CapSlope::CapSlope(double softcap, const at::Tensor& z, double weight) : weight_(weight) {
  if (softcap > 0) slope_ = (z * (1 / softcap)).square_().neg_().add_(1).mul_(weight);
}

void CapSlope::multiply(at::Tensor gradient) const {
  slope_.defined() ? gradient.mul_(slope_) : gradient.mul_(weight_);
}

at::Tensor head_logits(const HeadView& head, const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  const at::Tensor z = raw_logits(head, hidden);
  head.weights.parallel(z.size(0), [&](int64_t t) { cap(head, z.select(0, t)); });
  return z;
}

at::Tensor head_cross_entropy(const HeadView& head, const at::Tensor& hidden,
                              const at::Tensor& targets, double weight) {
  return HeadLossFunction::apply(hidden, targets, reinterpret_cast<int64_t>(&head), weight);
}

}  // namespace lapidary
