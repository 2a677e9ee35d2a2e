// Pieces of tokens through LibTorch's vectorized operations.
#include "finetune/elementwise.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "finetune/wide_loops.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

FrozenWeights& weights_at(int64_t address) { return *reinterpret_cast<FrozenWeights*>(address); }

// Both activations are x sigmoid(u(x)) with u = x (linear + cubic x^2): silu's u is x, and gelu's
// 1 + tanh z is 2 sigmoid(2 z).
struct ActivationShape {
  float linear, cubic;
};
ActivationShape shape_of(bool gelu) {
  constexpr float kTwoRootTwoOverPi = 1.5957691216f;
  return gelu ? ActivationShape{kTwoRootTwoOverPi, kTwoRootTwoOverPi * 0.044715f}
              : ActivationShape{1.0f, 0.0f};
}

// Gradients of activation(gate) * up. With s = sigmoid(u): activation' = s + x s (1 - s) u'.
LAPIDARY_WIDE_LOOPS void gated_gradients(ActivationShape shape, const float* __restrict gate,
                                         const float* __restrict up, const float* __restrict dy,
                                         int64_t n, float* __restrict dgate,
                                         float* __restrict dup) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = gate[i], squared = x * x;
    const float s = 1.0f / (1.0f + exp_in_loop(-x * (shape.linear + shape.cubic * squared)));
    const float slope = s + x * s * (1.0f - s) * (shape.linear + 3.0f * shape.cubic * squared);
    dgate[i] = dy[i] * up[i] * slope;
    dup[i] = dy[i] * x * s;
  }
}

// Rows of a tensor [n, width] whose values lie side by side.
class Rows {
 public:
  explicit Rows(const at::Tensor& x)
      : tensor_(x.stride(1) == 1 ? x : x.contiguous()),
        data_(tensor_.data_ptr<float>()),
        ld_(tensor_.stride(0)) {}
  float* at(int64_t row) const { return data_ + row * ld_; }

 private:
  at::Tensor tensor_;
  float* data_;
  int64_t ld_;
};

struct GatedFunction : torch::autograd::Function<GatedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up,
                            int64_t weights, bool gelu) {
    context->save_for_backward({gate, up});
    context->saved_data["weights"] = weights;
    context->saved_data["gelu"] = gelu;
    at::Tensor out = at::empty(gate.sizes(), gate.options());
    const int64_t width = gate.size(1);
    const Rows g(gate), u(up), y(out);
    const auto activate = gelu ? kernels().gelu_mul : kernels().silu_mul;
    weights_at(weights).parallel_rows(gate.size(0), width, [&](int64_t first, int64_t n) {
      for (int64_t t = first; t < first + n; ++t) activate(g.at(t), u.at(t), width, y.at(t));
    });
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& gate = saved[0];
    const int64_t width = gate.size(1);
    const ActivationShape shape = shape_of(context->saved_data["gelu"].toBool());
    at::Tensor dgate = at::empty(gate.sizes(), gate.options());
    at::Tensor dup = at::empty(gate.sizes(), gate.options());
    const Rows g(gate), u(saved[1]), d(gradients[0]), dg(dgate), du(dup);
    weights_at(context->saved_data["weights"].toInt())
        .parallel_rows(gate.size(0), width, [&](int64_t first, int64_t n) {
          for (int64_t t = first; t < first + n; ++t)
            gated_gradients(shape, g.at(t), u.at(t), d.at(t), width, dg.at(t), du.at(t));
        });
    return {dgate, dup, at::Tensor(), at::Tensor()};
  }
};

// With r = rsqrt(mean(x^2) + eps): y = x r w, and dx = r (dy w) - x r^3 mean(dy w x). x [n, width].
struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double eps, int64_t weights) {
    at::Tensor y = at::empty(x.sizes(), x.options());
    at::Tensor r = at::empty({x.size(0), 1}, x.options());
    const bool scaled = weight.numel() > 0;
    weights_at(weights).parallel_rows(x.size(0), x.size(1), [&](int64_t first, int64_t n) {
      const at::Tensor from = x.narrow(0, first, n);
      const at::Tensor root = from.square().mean(-1, true).add_(eps).rsqrt_();
      at::Tensor to = y.narrow(0, first, n);
      at::mul_out(to, from, root);
      if (scaled) to.mul_(weight);
      r.narrow(0, first, n).copy_(root);
    });
    context->save_for_backward({x, r, weight});
    context->saved_data["weights"] = weights;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &r = saved[1], &weight = saved[2], &dy = gradients[0];
    const bool scaled = weight.numel() > 0;
    at::Tensor dx = at::empty(x.sizes(), x.options());
    weights_at(context->saved_data["weights"].toInt())
        .parallel_rows(x.size(0), x.size(1), [&](int64_t first, int64_t n) {
          const at::Tensor from = x.narrow(0, first, n), root = r.narrow(0, first, n);
          const at::Tensor d = dy.narrow(0, first, n), g = scaled ? d * weight : d;
          const at::Tensor mean = (g * from).mean(-1, true).mul_(root).mul_(root);
          at::Tensor to = dx.narrow(0, first, n);
          at::mul_out(to, from, mean);
          at::sub_out(to, g, to).mul_(root);
        });
    return {dx, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor gated_activation(FrozenWeights& weights, Activation activation, const at::Tensor& gate,
                            const at::Tensor& up) {
  return GatedFunction::apply(gate, up, reinterpret_cast<int64_t>(&weights),
                              activation == Activation::kGeluTanh);
}

at::Tensor rms_norm(FrozenWeights& weights, const at::Tensor& x, const at::Tensor& weight,
                    double eps) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  return RmsNormFunction::apply(rows, weight.defined() ? weight : at::empty({0}, x.options()), eps,
                                reinterpret_cast<int64_t>(&weights))
      .view(x.sizes());
}

}  // namespace lapidary
