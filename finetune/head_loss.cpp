// Chunks of tokens through the head: logits, soft-cap, log-sum-exp, gradient.
#include "finetune/head_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "finetune/wide_loops.h"
#include "kernels/kernels.h"

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

// Sixteen sums side by side, since one sum in order would add one value at a time.
constexpr int64_t kLanes = 16;

LAPIDARY_WIDE_LOOPS float greatest(const float* values, int64_t n) {
  float most[kLanes];
  std::fill_n(most, kLanes, values[0]);
  for (int64_t i = 0; i + kLanes <= n; i += kLanes)
    for (int64_t j = 0; j < kLanes; ++j)
      most[j] = most[j] < values[i + j] ? values[i + j] : most[j];
  for (int64_t i = n / kLanes * kLanes; i < n; ++i) most[0] = std::max(most[0], values[i]);
  return *std::max_element(most, most + kLanes);
}

// Sum of e^(value - most), float32 within runs that are short enough for it.
LAPIDARY_WIDE_LOOPS double sum_of_exp(const float* values, int64_t n, float most) {
  constexpr int64_t kRun = 4096;
  double total = 0;
  for (int64_t first = 0; first < n; first += kRun) {
    const int64_t end = std::min(first + kRun, n);
    float sums[kLanes] = {};
    int64_t i = first;
    for (; i + kLanes <= end; i += kLanes)
      for (int64_t j = 0; j < kLanes; ++j) sums[j] += exp_in_loop(values[i + j] - most);
    for (; i < end; ++i) sums[0] += exp_in_loop(values[i] - most);
    total = std::accumulate(sums, sums + kLanes, total);
  }
  return total;
}

// value -> weight * e^(value - log_sum) * (1 - (value * inverse_cap)^2)
LAPIDARY_WIDE_LOOPS void to_gradient(float* values, int64_t n, float log_sum, float inverse_cap,
                                     float weight) {
  for (int64_t i = 0; i < n; ++i) {
    const float part = values[i] * inverse_cap;
    values[i] = weight * exp_in_loop(values[i] - log_sum) * (1.0f - part * part);
  }
}

// Turns the n raw logits of one token into weight * d(-log p(target)) / d(raw logits), in place,
// and gives -log p(target).
double loss_and_gradient(const HeadView& head, float* z, int64_t n, int64_t target, double weight) {
  if (head.softcap > 0) kernels().softcap(z, n, static_cast<float>(head.softcap));
  const float most = greatest(z, n);
  const double log_sum = most + std::log(sum_of_exp(z, n, most)), loss = log_sum - z[target];
  const double inverse_cap = head.softcap > 0 ? 1.0 / head.softcap : 0.0;
  const double part = z[target] * inverse_cap;
  to_gradient(z, n, static_cast<float>(log_sum), static_cast<float>(inverse_cap),
              static_cast<float>(weight));
  z[target] -= static_cast<float>(weight * (1 - part * part));
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
      auto* logits = z.data_ptr<float>();
      head.weights.parallel(n, [&](int64_t t) {
        losses[static_cast<size_t>(first + t)] =
            loss_and_gradient(head, logits + t * z.stride(0), z.size(1), target[first + t], weight);
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
