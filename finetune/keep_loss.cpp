// Two chunks of logits side by side; the gradient of the tuned logits is p_tuned - p_base.
#include "finetune/keep_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "finetune/model_twin.h"

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kLogitBytes = int64_t{64} << 20;  // of one chunk of one of the two models

struct HeadKlFunction : torch::autograd::Function<HeadKlFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& base_hidden, int64_t head_address, double weight) {
    const auto& head = *reinterpret_cast<const HeadView*>(head_address);
    const int64_t chunk =
        std::max<int64_t>(16, kLogitBytes / static_cast<int64_t>(sizeof(float)) / head.matrix.rows);
    at::Tensor gradient = at::empty_like(hidden);
    double sum = 0;
    for (int64_t first = 0; first < hidden.size(0); first += chunk) {
      const int64_t n = std::min(chunk, hidden.size(0) - first);
      const at::Tensor base = head_logits(head, base_hidden.narrow(0, first, n)).log_softmax(1);
      const at::Tensor z = head_logits(head, hidden.narrow(0, first, n));
      const at::Tensor tuned = z.log_softmax(1);
      const at::Tensor p = base.exp();
      sum += (p * (base - tuned)).sum(at::kDouble).item<double>();
      at::Tensor dz = tuned.exp().sub_(p);
      if (head.softcap > 0) dz.mul_(1 - (z / head.softcap).square_());  // d tanh = 1 - tanh^2
      dz.mul_(weight);
      gradient.narrow(0, first, n).copy_(head.weights.multiply_transposed(head.matrix, dz));
    }
    context->save_for_backward({gradient});
    return at::scalar_tensor(sum * weight, hidden.options());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {context->get_saved_variables()[0] * gradients[0], at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

// Which of the predicting tokens stand in kept examples, and the row of those examples alone.
struct KeptPart {
  TokenRow row;
  std::vector<int64_t> which;
};

KeptPart kept_part(const TokenRow& row) {
  KeptPart part;
  int64_t begin = 0, n_predicting = 0;
  for (size_t i = 0; i < row.lengths.size(); begin += row.lengths[i++]) {
    const bool kept = !row.keeps_base.empty() && row.keeps_base[i];
    const int64_t end = begin + row.lengths[i];
    for (int64_t t = begin + 1; t < end; ++t) {
      if (row.labels[static_cast<size_t>(t)] == kNotLearned) continue;
      if (kept) part.which.push_back(n_predicting);
      ++n_predicting;
    }
    if (!kept) continue;
    part.row.ids.insert(part.row.ids.end(), row.ids.begin() + begin, row.ids.begin() + end);
    part.row.labels.insert(part.row.labels.end(), row.labels.begin() + begin,
                           row.labels.begin() + end);
    part.row.lengths.push_back(row.lengths[i]);
  }
  return part;
}

at::Tensor pick(const at::Tensor& states, const std::vector<int64_t>& where) {
  return states.index_select(0, at::tensor(at::ArrayRef<int64_t>(where), at::kLong));
}

}  // namespace

at::Tensor head_kl(const HeadView& head, const at::Tensor& hidden, const at::Tensor& base_hidden,
                   double weight) {
  return HeadKlFunction::apply(hidden, base_hidden, reinterpret_cast<int64_t>(&head), weight);
}

at::Tensor ModelTwin::kl_to_base(const TokenRow& row, const at::Tensor& hidden, double weight) {
  const KeptPart part = kept_part(row);
  if (part.which.empty()) return {};
  at::Tensor base;
  {
    const at::NoGradGuard no_grad;
    const LoraSet* lora = lora_;
    set_adapter(nullptr);
    base = this->hidden(part.row, predicting_tokens(part.row));
    set_adapter(lora);
  }
  return head_kl(head_, pick(hidden, part.which), base, weight);
}

}  // namespace lapidary
