// Chunks of tokens through the head: logits, soft-cap, log-sum-exp, gradient.
#include "finetune/head_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Bytes of one chunk's logits: 256 tokens at a vocabulary of 262,144. Each chunk dequantizes the
// whole head twice, so smaller chunks would spend more time there than in the product.
constexpr int64_t kLogitBytes = int64_t{256} << 20;

at::Tensor capped_logits(const HeadView& head, const at::Tensor& hidden) {
  at::Tensor z = head.weights.multiply(head.matrix, hidden);
  if (head.softcap > 0) z.div_(head.softcap).tanh_().mul_(head.softcap);
  return z;
}

struct HeadLossFunction : torch::autograd::Function<HeadLossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& targets, int64_t head_address, double weight) {
    const auto& head = *reinterpret_cast<const HeadView*>(head_address);
    const int64_t chunk =
        std::max<int64_t>(16, kLogitBytes / static_cast<int64_t>(sizeof(float)) / head.matrix.rows);
    at::Tensor gradient = at::empty_like(hidden);
    double loss = 0;
    for (int64_t first = 0; first < hidden.size(0); first += chunk) {
      const int64_t n = std::min(chunk, hidden.size(0) - first);
      const at::Tensor target = targets.narrow(0, first, n).unsqueeze(1);
      const at::Tensor z = capped_logits(head, hidden.narrow(0, first, n));
      const at::Tensor log_sum = z.logsumexp(1, true);
      loss += (log_sum - z.gather(1, target)).sum(at::kDouble).item<double>();
      at::Tensor dz = (z - log_sum).exp_();
      dz.scatter_add_(1, target, at::full({n, 1}, -1.0, z.options()));
      if (head.softcap > 0) dz.mul_(1 - (z / head.softcap).square_());  // d tanh = 1 - tanh^2
      dz.mul_(weight);
      gradient.narrow(0, first, n).copy_(head.weights.multiply_transposed(head.matrix, dz));
    }
    context->save_for_backward({gradient});
    return at::scalar_tensor(loss * weight, hidden.options());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {context->get_saved_variables()[0] * gradients[0], at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor head_logits(const HeadView& head, const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  return capped_logits(head, hidden);
}

at::Tensor head_cross_entropy(const HeadView& head, const at::Tensor& hidden,
                              const at::Tensor& targets, double weight) {
  return HeadLossFunction::apply(hidden, targets, reinterpret_cast<int64_t>(&head), weight);
}

}  // namespace lapidary
