// Each other hand-written gradient against dense LibTorch operations.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "finetune/attention.h"
#include "finetune/elementwise.h"
#include "finetune/head_loss.h"
#include "finetune/model_twin.h"
#include "tests/finetune/fixtures.h"
#include "tests/finetune/random_tensors.h"

namespace lapidary {
namespace {

TEST(RmsNorm, HasTheGradientOfItsFormula) {
  FrozenWeights weights(2);
  const at::Tensor w = random_tensor({48}, 3);
  const at::Tensor g = random_tensor({7, 48}, 4);
  at::Tensor a = random_tensor({7, 48}, 5).requires_grad_(true);
  at::Tensor b = a.detach().clone().requires_grad_(true);
  torch::autograd::backward({rms_norm(weights, a, w, 1e-6)}, {g});
  torch::autograd::backward({b * (b.square().mean(-1, true) + 1e-6).rsqrt() * w}, {g});
  EXPECT_LT(relative_difference(a.grad(), b.grad()), kRounding);
}

TEST(GatedActivation, HasTheGradientOfItsFormula) {
  FrozenWeights weights(2);
  const at::Tensor g = random_tensor({700, 96}, 4);
  for (const Activation activation : {Activation::kGeluTanh, Activation::kSilu}) {
    std::vector<at::Tensor> ours, theirs;
    for (uint64_t seed : {5, 6}) {
      ours.push_back(random_tensor({700, 96}, seed).mul_(2).requires_grad_(true));
      theirs.push_back(ours.back().detach().clone().requires_grad_(true));
    }
    const at::Tensor a = gated_activation(weights, activation, ours[0], ours[1]);
    const at::Tensor b =
        (activation == Activation::kSilu ? at::silu(theirs[0]) : at::gelu(theirs[0], "tanh")) *
        theirs[1];
    EXPECT_LT(relative_difference(a.detach(), b.detach()), kRounding);
    torch::autograd::backward({a}, {g});
    torch::autograd::backward({b}, {g});
    for (size_t i : {0, 1})
      EXPECT_LT(relative_difference(ours[i].grad(), theirs[i].grad()), kRounding);
  }
}

// All heads and all tokens at once under one mask.
at::Tensor dense_attention(const std::vector<int64_t>& lengths, int window, const at::Tensor& q,
                           const at::Tensor& k, const at::Tensor& v, double scale) {
  const int64_t n = q.size(0), group = q.size(1) / k.size(1);
  at::Tensor hidden = at::ones({n, n}, at::kBool);
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    for (int64_t i = begin; i < begin + length; ++i)
      for (int64_t j = begin; j <= i; ++j)
        if (window == 0 || j > i - window) hidden[i][j] = false;
    begin += length;
  }
  const auto heads = [&](const at::Tensor& x) {
    return x.repeat_interleave(q.size(1) / x.size(1), 1).transpose(0, 1);
  };
  EXPECT_EQ(group * k.size(1), q.size(1));
  const at::Tensor scores = at::bmm(heads(q), heads(k).transpose(1, 2)) * scale;
  return at::bmm(scores.masked_fill(hidden, -INFINITY).softmax(-1), heads(v)).transpose(0, 1);
}

TEST(Attention, IsDenseAttentionUnderTheMaskForwardAndBackward) {
  // Short examples that share a tile, one longer than a tile (256), one of a single token.
  FrozenWeights weights(2);
  const std::vector<int64_t> lengths{5, 1, 30, 300, 12};
  for (const int window : {0, 1, 20, 280}) {
    const auto plan = plan_attention(lengths, window);
    std::vector<at::Tensor> ours, theirs;
    for (const int64_t heads : {4, 2, 2})
      ours.push_back(random_tensor({348, heads, 8}, ours.size() + 10).requires_grad_(true));
    for (const at::Tensor& t : ours) theirs.push_back(t.detach().clone().requires_grad_(true));
    const at::Tensor g = random_tensor({348, 4, 8}, 20);
    const at::Tensor a = attention(weights, plan, ours[0], ours[1], ours[2], 0.7);
    const at::Tensor b = dense_attention(lengths, window, theirs[0], theirs[1], theirs[2], 0.7);
    EXPECT_LT(relative_difference(a.detach(), b.detach()), kRounding) << window;
    torch::autograd::backward({a}, {g});
    torch::autograd::backward({b}, {g});
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT((ours[i].grad() - theirs[i].grad()).norm().item<double>(),
                // A window of one key has no gradient for q and k at all, only rounding.
                kRounding * (1 + theirs[i].grad().norm().item<double>()))
          << window << " input " << i;
  }
}

TEST(Attention, OfSomeQueriesIsTheirPartOfAll) {
  FrozenWeights weights(2);
  const std::vector<int64_t> lengths{5, 300, 12}, picked{0, 3, 6, 200, 201, 304, 316};
  const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(picked), at::kLong);
  for (const int window : {0, 40}) {
    std::vector<at::Tensor> ours, theirs;
    for (const int64_t heads : {4, 2, 2})
      ours.push_back(random_tensor({317, heads, 8}, ours.size() + 10).requires_grad_(true));
    for (const at::Tensor& t : ours) theirs.push_back(t.detach().clone().requires_grad_(true));
    const at::Tensor g = random_tensor({7, 4, 8}, 20);
    const at::Tensor a = attention(weights, plan_attention(lengths, window, picked),
                                   ours[0].index_select(0, index), ours[1], ours[2], 0.7);
    const at::Tensor b =
        attention(weights, plan_attention(lengths, window), theirs[0], theirs[1], theirs[2], 0.7)
            .index_select(0, index);
    EXPECT_LT(relative_difference(a.detach(), b.detach()), kRounding) << window;
    torch::autograd::backward({a}, {g});
    torch::autograd::backward({b}, {g});
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT(relative_difference(ours[i].grad(), theirs[i].grad()), kRounding) << window;
  }
}

// The layers behind the last own K and V, run on the tokens that predict, against all of them run:
// the same states and the same gradients for every adapter.
TEST(ModelTwin, LeavesOutTokensThatNothingReads) {
  for (const char* name : {"nano-e", "tiny-llama3"}) {
    const auto model = load_converted(data_path(name));
    TokenRow row;
    for (int32_t t = 0; t < 330; ++t) row.ids.push_back(3 + t * 37 % 500);
    row.labels.assign(row.ids.size(), kNotLearned);
    row.lengths = {200, 130};
    std::vector<int64_t> picked;
    for (int64_t t = 0; t < 330; ++t)
      if (t % 5 < 2) picked.push_back(t);
    ModelTwin twin(model, 2, Precision::kFloat32);
    PeftConfig config;
    config.target_modules = {"q_proj", "k_proj", "v_proj", "o_proj", "down_proj"};
    PeftAdapter start = new_adapter(config, twin.adaptable(), 1);
    for (LoraModule& m : start.modules)
      for (size_t i = 0; i < m.b.size(); ++i) m.b[i] = 0.01f * static_cast<float>(i % 7);
    LoraSet lora(start, twin.adaptable(), twin.weights());
    twin.set_adapter(&lora);
    const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(picked), at::kLong);
    const at::Tensor g = random_tensor({index.size(0), twin.config().d_model}, 3);
    const auto gradients = [&](const at::Tensor& hidden) {
      torch::autograd::backward({hidden}, {g});
      std::vector<at::Tensor> all{hidden.detach()};
      for (LoraWeights& w : lora.modules())
        for (at::Tensor* t : {&w.a, &w.b}) {
          all.push_back(t->grad().clone());
          t->mutable_grad().reset();
        }
      return all;
    };
    const auto few = gradients(twin.hidden(row, picked, /*checkpoint_activations=*/true));
    const auto all = gradients(twin.hidden(row).index_select(0, index));
    // Ten layers of float32 sums whose pieces end elsewhere.
    for (size_t i = 0; i < few.size(); ++i)
      EXPECT_LT(relative_difference(few[i], all[i]), 1e-4) << name << " " << i;
  }
}

TEST(HeadLoss, IsSoftCappedCrossEntropyForwardAndBackward) {
  FrozenWeights weights(2);
  const PackedBytes packed(Code::kW8, 97, 64, false);
  const at::Tensor w = dense(weights, packed.view);
  for (const double softcap : {0.0, 3.0}) {
    const HeadView head{weights, packed.view, softcap};
    at::Tensor a = random_tensor({40, 64}, 7).mul_(3).requires_grad_(true);
    at::Tensor b = a.detach().clone().requires_grad_(true);
    at::Tensor targets = at::arange(40, at::kLong) * 2;
    const at::Tensor ours = head_cross_entropy(head, a, targets, 0.25);
    at::Tensor z = b.mm(w.t());
    if (softcap > 0) z = softcap * (z / softcap).tanh();
    const at::Tensor theirs = -z.log_softmax(-1).gather(1, targets.unsqueeze(1)).sum() * 0.25;
    EXPECT_NEAR(ours.item<double>(), theirs.item<double>(), 1e-4);
    torch::autograd::backward({ours}, {});
    torch::autograd::backward({theirs}, {});
    EXPECT_LT(relative_difference(a.grad(), b.grad()), kRounding) << softcap;
  }
}

}  // namespace
}  // namespace lapidary
