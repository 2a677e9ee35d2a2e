// Each hand-written gradient against dense LibTorch operations, and the packed product against
// central differences.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstring>

#include "finetune/attention.h"
#include "finetune/head_loss.h"
#include "finetune/norm_rope.h"
#include "finetune/packed_linear.h"
#include "formats/packed_matrix.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed) {
  at::Tensor t = at::empty(shape, at::kFloat);
  SplitMix64 random(seed);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data_ptr<float>()[i] = static_cast<float>(2 * random.uniform() - 1);
  return t;
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// Float32 sums in another order.
constexpr double kRounding = 1e-5;

// A packed matrix of random integers, and the bytes behind it.
struct PackedBytes {
  PackedBytes(Code code, int64_t rows, int64_t k, bool rotated) {
    const PackedGeometry g = packed_geometry(code, rows, k);
    bytes.resize(static_cast<size_t>(g.code_bytes + g.meta_bytes + 64));
    uint8_t* start = bytes.data();
    start += (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64;  // views want aligned codes
    SplitMix64 random(5);
    for (int64_t panel = 0; panel < g.n_panels; ++panel) {
      PanelIntegers in(g);
      for (auto& index : in.indices)
        index = static_cast<uint8_t>(random.below(uint64_t{1} << traits(code).bits));
      for (auto& m : in.multipliers)
        m = static_cast<int8_t>(random.between(1, traits(code).max_multiplier));
      for (auto& s : in.scales) s = float_to_scale(ScaleType::kF16, 0.001f);
      pack_panel(g, in,
                 {start + panel * g.panel_code_bytes, static_cast<size_t>(g.panel_code_bytes)},
                 {start + g.code_bytes + panel * g.panel_meta_bytes,
                  static_cast<size_t>(g.panel_meta_bytes)});
    }
    view = {code, rows, k, rotated, ScaleType::kF16, start, start + g.code_bytes};
  }
  std::vector<uint8_t> bytes;
  MatrixView view;
};

at::Tensor dense(FrozenWeights& weights, const MatrixView& w) {
  at::Tensor all = at::empty({w.rows, w.k}, at::kFloat);
  weights.for_rows(w, [&](int64_t first, const at::Tensor& rows) {
    all.narrow(0, first, rows.size(0)).copy_(rows);
  });
  return all;
}

TEST(PackedLinear, IsTheDenseProductForwardAndBackward) {
  FrozenWeights weights(2);
  for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4, Code::kW3})
    for (const bool rotated : {false, true}) {
      const PackedBytes packed(code, 50, 200, rotated);  // odd numbers of panels and tiles
      const at::Tensor w = dense(weights, packed.view);
      const at::Tensor x = random_tensor({300, 200}, 1).requires_grad_(true);
      const at::Tensor g = random_tensor({300, 50}, 2);
      const at::Tensor y = packed_linear(weights, packed.view, x);
      EXPECT_LT(relative_difference(y.detach(), x.detach().mm(w.t())), kRounding);
      torch::autograd::backward({y}, {g});
      EXPECT_LT(relative_difference(x.grad(), g.mm(w)), kRounding) << code_name(code);
    }
}

TEST(PackedLinear, GradientIsThatOfCentralDifferences) {
  FrozenWeights weights(1);
  const PackedBytes packed(Code::kW4, 24, 64, true);
  const at::Tensor x = random_tensor({2, 64}, 1).requires_grad_(true);
  const at::Tensor g = random_tensor({2, 24}, 2);
  const auto value = [&](const at::Tensor& at_x) {
    return (packed_linear(weights, packed.view, at_x) * g).sum(at::kDouble).item<double>();
  };
  torch::autograd::backward({packed_linear(weights, packed.view, x)}, {g});
  constexpr double kStep = 1e-2;  // the function is linear, so only rounding limits the step
  for (int64_t i = 0; i < x.numel(); i += 7) {
    at::Tensor up = x.detach().clone(), down = x.detach().clone();
    up.data_ptr<float>()[i] += static_cast<float>(kStep);
    down.data_ptr<float>()[i] -= static_cast<float>(kStep);
    // Float32 rounding of the two sums (about 1e-6) divided by the step.
    EXPECT_NEAR(x.grad().flatten()[i].item<double>(), (value(up) - value(down)) / (2 * kStep),
                1e-3);
  }
}

TEST(PackedLinear, DoesNotDependOnTheNumberOfThreads) {
  FrozenWeights one(1), two(2), three(3);
  const PackedBytes packed(Code::kW4, 333, 512, true);
  const at::Tensor x = random_tensor({700, 512}, 1), dy = random_tensor({700, 333}, 2);
  for (FrozenWeights* other : {&two, &three}) {
    EXPECT_TRUE(one.multiply(packed.view, x).equal(other->multiply(packed.view, x)));
    EXPECT_TRUE(one.multiply_transposed(packed.view, dy)
                    .equal(other->multiply_transposed(packed.view, dy)));
  }
}

TEST(RmsNorm, HasTheGradientOfItsFormula) {
  const at::Tensor w = random_tensor({48}, 3);
  const at::Tensor g = random_tensor({7, 48}, 4);
  at::Tensor a = random_tensor({7, 48}, 5).requires_grad_(true);
  at::Tensor b = a.detach().clone().requires_grad_(true);
  torch::autograd::backward({rms_norm(a, w, 1e-6)}, {g});
  torch::autograd::backward({b * (b.square().mean(-1, true) + 1e-6).rsqrt() * w}, {g});
  EXPECT_LT(relative_difference(a.grad(), b.grad()), kRounding);
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
  const std::vector<int64_t> lengths{5, 1, 30, 300, 12};
  for (const int window : {0, 1, 20, 280}) {
    const auto plan = plan_attention(lengths, window);
    std::vector<at::Tensor> ours, theirs;
    for (const int64_t heads : {4, 2, 2})
      ours.push_back(random_tensor({348, heads, 8}, ours.size() + 10).requires_grad_(true));
    for (const at::Tensor& t : ours) theirs.push_back(t.detach().clone().requires_grad_(true));
    const at::Tensor g = random_tensor({348, 4, 8}, 20);
    const at::Tensor a = attention(plan, ours[0], ours[1], ours[2], 0.7);
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
