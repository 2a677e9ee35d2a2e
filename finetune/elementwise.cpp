// Pieces of tokens through LibTorch's vectorized operations.
#include "finetune/elementwise.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

FrozenWeights& weights_at(int64_t address) { return *reinterpret_cast<FrozenWeights*>(address); }

struct GatedFunction : torch::autograd::Function<GatedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up,
                            int64_t weights, bool gelu) {
    context->save_for_backward({gate, up});
    context->saved_data["weights"] = weights;
    context->saved_data["gelu"] = gelu;
    at::Tensor out = at::empty(gate.sizes(), gate.options());
    weights_at(weights).parallel_rows(gate.size(0), gate.size(1), [&](int64_t first, int64_t n) {
      const at::Tensor g = gate.narrow(0, first, n);
      at::Tensor y = out.narrow(0, first, n);
      if (gelu)
        at::gelu_out(y, g, "tanh");
      else
        at::silu_out(y, g);
      y.mul_(up.narrow(0, first, n));
    });
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1], &dy = gradients[0];
    const bool gelu = context->saved_data["gelu"].toBool();
    at::Tensor dgate = at::empty(gate.sizes(), gate.options());
    at::Tensor dup = at::empty(gate.sizes(), gate.options());
    weights_at(context->saved_data["weights"].toInt())
        .parallel_rows(gate.size(0), gate.size(1), [&](int64_t first, int64_t n) {
          const auto part = [&](const at::Tensor& x) { return x.narrow(0, first, n); };
          const at::Tensor g = part(gate), d = part(dy), inner = d * part(up);
          at::Tensor du = part(dup);
          part(dgate).copy_(gelu ? at::gelu_backward(inner, g, "tanh")
                                 : at::silu_backward(inner, g));
          if (gelu)
            at::gelu_out(du, g, "tanh");
          else
            at::silu_out(du, g);
          du.mul_(d);
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
