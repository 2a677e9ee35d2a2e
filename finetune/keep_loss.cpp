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

// Turns the tuned logits of one token into weight * dKL / d(raw logits), in place, the base's into
// scratch, and gives KL.
double kl_and_gradient(double softcap, at::Tensor base, at::Tensor z, double weight) {
  const CapSlope slope(softcap, z, weight);
  base.sub_(base.logsumexp(0));
  z.sub_(z.logsumexp(0));
  const at::Tensor p = base.exp();
  const double kl = base.sub_(z).mul_(p).sum(at::kDouble).item<double>();
  z.exp_().sub_(p);
  slope.multiply(z);
  return kl;
}

struct HeadKlFunction : torch::autograd::Function<HeadKlFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& base_hidden, int64_t head_address,
                            int64_t weights_address, int64_t kl_address) {
    const auto& head = *reinterpret_cast<const HeadView*>(head_address);
    const auto* weights = reinterpret_cast<const double*>(weights_address);
    auto* kl = reinterpret_cast<double*>(kl_address);
    const int64_t chunk =
        std::max<int64_t>(16, kLogitBytes / static_cast<int64_t>(sizeof(float)) / head.matrix.rows);
    at::Tensor gradient = at::empty_like(hidden);
    double sum = 0;
    for (int64_t first = 0; first < hidden.size(0); first += chunk) {
      const int64_t n = std::min(chunk, hidden.size(0) - first);
      const at::Tensor base = head_logits(head, base_hidden.narrow(0, first, n));
      const at::Tensor z = head_logits(head, hidden.narrow(0, first, n));
      head.weights.parallel(n, [&](int64_t t) {
        kl[first + t] =
            kl_and_gradient(head.softcap, base.select(0, t), z.select(0, t), weights[first + t]);
      });
      for (int64_t t = first; t < first + n; ++t) sum += weights[t] * kl[t];
      gradient.narrow(0, first, n).copy_(head.weights.multiply_transposed(head.matrix, z));
    }
    context->save_for_backward({gradient});
    return at::scalar_tensor(sum, hidden.options());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {context->get_saved_variables()[0] * gradients[0], at::Tensor(), at::Tensor(),
            at::Tensor(), at::Tensor()};
  }
};

// The examples of a row that something is kept of, and where its kept tokens are predicted: in the
// part's row, and among the states of measured_tokens().
struct KeptPart {
  TokenRow row;
  std::vector<int64_t> where, among_measured;
  std::vector<double> weights;
  std::vector<bool> is_general;
};

KeptPart kept_part(const TokenRow& row, const KeepWeights& weights) {
  KeptPart part;
  std::vector<int64_t> shift(row.lengths.size());  // from the row's tokens to the part's
  int64_t begin = 0;
  for (size_t i = 0; i < row.lengths.size(); begin += row.lengths[i++]) {
    if (weights.of(row.keeps[i]) == 0) continue;
    shift[i] = static_cast<int64_t>(part.row.ids.size()) - begin;
    const auto end = begin + row.lengths[i];
    part.row.ids.insert(part.row.ids.end(), row.ids.begin() + begin, row.ids.begin() + end);
    part.row.lengths.push_back(row.lengths[i]);
  }
  part.row.labels.assign(part.row.ids.size(), kNotLearned);
  int64_t n_measured = 0;
  row.for_predicted([&](size_t i, int64_t t) {
    const double weight = weights.of(row.keeps[i]);
    const bool kept = weight != 0 && row.is_kept(i, t, row.keeps[i]);
    if (kept) {
      part.where.push_back(t - 1 + shift[i]);
      part.among_measured.push_back(n_measured);
      part.weights.push_back(weight);
      part.is_general.push_back(row.keeps[i] == Keep::kAll);
    }
    n_measured += kept || row.is_learned(t);
  });
  return part;
}

}  // namespace

std::vector<int64_t> measured_tokens(const TokenRow& row, const KeepWeights& weights) {
  std::vector<int64_t> tokens;
  row.for_predicted([&](size_t i, int64_t t) {
    const Keep kind = row.keeps.empty() ? Keep::kNothing : row.keeps[i];
    if (row.is_learned(t) || (weights.of(kind) != 0 && row.is_kept(i, t, kind)))
      tokens.push_back(t - 1);
  });
  return tokens;
}

at::Tensor head_kl(const HeadView& head, const at::Tensor& hidden, const at::Tensor& base_hidden,
                   std::span<const double> weights, std::vector<double>& kl) {
  kl.resize(static_cast<size_t>(hidden.size(0)));
  LAPIDARY_CHECK(weights.size() == kl.size());
  return HeadKlFunction::apply(hidden, base_hidden, reinterpret_cast<int64_t>(&head),
                               reinterpret_cast<int64_t>(weights.data()),
                               reinterpret_cast<int64_t>(kl.data()));
}

KeepLoss ModelTwin::kl_to_base(const TokenRow& row, const at::Tensor& hidden,
                               const KeepWeights& weights) {
  if (row.keeps.empty()) return {};
  const KeptPart part = kept_part(row, weights);
  if (part.where.empty()) return {};
  at::Tensor base;
  {
    const at::NoGradGuard no_grad;
    const LoraSet* lora = lora_;
    set_adapter(nullptr);
    base = this->hidden(part.row, part.where);
    set_adapter(lora);
  }
  const bool all_kept = static_cast<int64_t>(part.where.size()) == hidden.size(0);
  const at::Tensor tuned =
      all_kept ? hidden
               : hidden.index_select(
                     0, at::tensor(at::ArrayRef<int64_t>(part.among_measured), at::kLong));
  KeepLoss result;
  std::vector<double> kl;
  result.loss = head_kl(head_, tuned, base, part.weights, kl);
  for (size_t i = 0; i < kl.size(); ++i)
    if (part.is_general[i]) result.kl += kl[i];
  return result;
}

}  // namespace lapidary
