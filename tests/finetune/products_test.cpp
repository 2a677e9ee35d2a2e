// Products with packed matrices, alone and with an update, against dense LibTorch operations and
// central differences.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>

#include "finetune/attention.h"
#include "finetune/packed_linear.h"
#include "tests/finetune/random_tensors.h"

namespace lapidary {
namespace {

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

TEST(BlockProduct, IsTheProductForEveryShapeAndSide) {
  for (const Precision p : {Precision::kFloat32, native_precision()})
    for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{
             {1, 1, 1}, {16, 64, 32}, {65, 130, 7}, {100, 17, 513}, {3, 300, 600}})
      for (const bool a_turned : {false, true})
        for (const bool b_turned : {false, true}) {
          at::Tensor a = random_tensor({m, k}, 1), b = random_tensor({k, n}, 2);
          const at::Tensor start = random_tensor({m, n}, 3);
          at::Tensor c = start.clone();
          const at::Tensor left = a_turned ? a.t().contiguous() : a;
          const at::Tensor right = b_turned ? b.t().contiguous() : b;
          block_product(p, m, n, k, {left.data_ptr<float>(), left.size(1), a_turned},
                        {right.data_ptr<float>(), right.size(1), b_turned}, c.data_ptr<float>(), n,
                        /*add=*/true);
          if (p == Precision::kBFloat16) {
            a = a.to(at::kBFloat16).to(at::kFloat);
            b = b.to(at::kBFloat16).to(at::kFloat);
          }
          EXPECT_LT(relative_difference(c, start + a.mm(b)), kRounding)
              << m << " " << n << " " << k;
        }
}

TEST(PackedLinear, RoundsItsOperandsOnlyInBFloat16) {
  FrozenWeights weights(2, native_precision());
  const PackedBytes packed(Code::kW4, 77, 200, true);
  const at::Tensor w = dense(weights, packed.view), x = random_tensor({33, 200}, 1);
  const at::Tensor dy = random_tensor({33, 77}, 2);
  const auto rounded = [&](const at::Tensor& t) {
    return native_precision() == Precision::kBFloat16 ? t.to(at::kBFloat16).to(at::kFloat) : t;
  };
  EXPECT_LT(relative_difference(weights.multiply(packed.view, x), rounded(x).mm(rounded(w).t())),
            kRounding);
  EXPECT_LT(
      relative_difference(weights.multiply_transposed(packed.view, dy), rounded(dy).mm(rounded(w))),
      kRounding);
}

TEST(LoraLinear, HasTheGradientsOfItsFormula) {
  FrozenWeights weights(2);
  const PackedBytes packed(Code::kW4, 600, 200, true);
  const at::Tensor w = dense(weights, packed.view), g = random_tensor({300, 600}, 9);
  std::vector<at::Tensor> ours, theirs;
  for (const auto& shape : std::vector<std::vector<int64_t>>{{300, 200}, {5, 200}, {600, 5}}) {
    ours.push_back(random_tensor(shape, ours.size() + 1).requires_grad_(true));
    theirs.push_back(ours.back().detach().clone().requires_grad_(true));
  }
  const at::Tensor a = lora_linear(weights, packed.view, ours[0], ours[1], ours[2], 0.5);
  const at::Tensor b = theirs[0].mm(w.t()) + theirs[0].mm(theirs[1].t()).mm(theirs[2].t()) * 0.5;
  EXPECT_LT(relative_difference(a.detach(), b.detach()), kRounding);
  torch::autograd::backward({a}, {g});
  torch::autograd::backward({b}, {g});
  for (size_t i = 0; i < 3; ++i)
    EXPECT_LT(relative_difference(ours[i].grad(), theirs[i].grad()), kRounding) << i;
}

TEST(Gradients, DoNotDependOnTheNumberOfThreads) {
  const PackedBytes packed(Code::kW4, 600, 64, true);
  const auto plan = plan_attention(std::vector<int64_t>{300, 290}, 100);
  std::vector<std::vector<at::Tensor>> results;
  for (const int n_threads : {1, 2, 3}) {
    FrozenWeights weights(n_threads, native_precision());
    std::vector<at::Tensor> in;
    for (const auto& shape :
         std::vector<std::vector<int64_t>>{{590, 64}, {4, 64}, {600, 4}, {590, 2, 32}})
      in.push_back(random_tensor(shape, in.size() + 1).requires_grad_(true));
    const at::Tensor y = lora_linear(weights, packed.view, in[0], in[1], in[2], 1.0);
    const at::Tensor q = in[0].view({590, 2, 32}), k = in[3];
    const at::Tensor out = attention(weights, plan, q, k, k, 0.3);
    torch::autograd::backward({y, out}, {at::ones_like(y), at::ones_like(out)});
    results.push_back({y.detach(), out.detach()});
    for (const at::Tensor& t : in) results.back().push_back(t.grad());
  }
  for (size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(results[0][i].equal(results[1][i])) << i;
    EXPECT_TRUE(results[0][i].equal(results[2][i])) << i;
  }
}

}  // namespace
}  // namespace lapidary
