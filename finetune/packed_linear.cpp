// The custom autograd functions of QLoRA.
#include "finetune/packed_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

FrozenWeights& weights_at(int64_t address) { return *reinterpret_cast<FrozenWeights*>(address); }
const MatrixView& matrix_at(int64_t address) {
  return *reinterpret_cast<const MatrixView*>(address);
}

struct PackedLinearFunction : torch::autograd::Function<PackedLinearFunction> {
  // Addresses travel as integers because the context stores nothing else that is plain.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t weights,
                            int64_t matrix, KeptOutput* kept) {
    context->saved_data["weights"] = weights;
    context->saved_data["matrix"] = matrix;
    if (weights_at(weights).tap()) context->save_for_backward({x});
    return make_or_take(weights_at(weights), kept,
                        [&] { return weights_at(weights).multiply(matrix_at(matrix), x); });
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    FrozenWeights& weights = weights_at(context->saved_data["weights"].toInt());
    const MatrixView& matrix = matrix_at(context->saved_data["matrix"].toInt());
    if (weights.tap()) weights.tap()(matrix, context->get_saved_variables()[0], gradients[0]);
    return {weights.multiply_transposed(matrix, gradients[0]), at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

// Narrow products, cut by tokens or by columns so that every thread packs its operands once.
constexpr int64_t kTokens = 128, kColumns = 512;

// x [n, k] times m^T or m -> [n, rank], for a narrow m, by tokens.
at::Tensor narrow_product(FrozenWeights& weights, const at::Tensor& x, const Operand& m,
                          int64_t rank) {
  const int64_t n = x.size(0), k = x.size(1);
  at::Tensor z = at::empty({n, rank}, x.options());
  weights.parallel((n + kTokens - 1) / kTokens, [&](int64_t i) {
    const int64_t first = i * kTokens;
    block_product(weights.precision(), std::min(kTokens, n - first), rank, k,
                  {x.data_ptr<float>() + first * k, k}, m, z.data_ptr<float>() + first * rank, rank,
                  /*add=*/false);
    release_blocks(weights.precision());
  });
  return z;
}

// f(first, count) for runs of columns.
template <class F>
void by_columns(FrozenWeights& weights, int64_t n_columns, F&& f) {
  weights.parallel((n_columns + kColumns - 1) / kColumns, [&](int64_t i) {
    f(i * kColumns, std::min(kColumns, n_columns - i * kColumns));
    release_blocks(weights.precision());
  });
}

// y [n, columns] += z [n, rank] m, m [rank, columns] or its transpose.
void add_wide_product(FrozenWeights& weights, const at::Tensor& z, const at::Tensor& m,
                      bool transposed, const at::Tensor& y) {
  const int64_t rank = z.size(1), width = y.size(1);
  by_columns(weights, width, [&](int64_t first, int64_t count) {
    const float* part = m.data_ptr<float>() + first * (transposed ? rank : 1);
    block_product(weights.precision(), z.size(0), count, rank, {z.data_ptr<float>(), rank},
                  {part, transposed ? rank : width, transposed}, y.data_ptr<float>() + first, width,
                  /*add=*/true);
  });
}

// z^T x, [rank, columns].
at::Tensor gradient_product(FrozenWeights& weights, const at::Tensor& z, const at::Tensor& x) {
  const int64_t rank = z.size(1), width = x.size(1);
  at::Tensor out = at::empty({rank, width}, x.options());
  by_columns(weights, width, [&](int64_t first, int64_t count) {
    block_product(weights.precision(), rank, count, z.size(0),
                  {z.data_ptr<float>(), rank, /*transposed=*/true},
                  {x.data_ptr<float>() + first, width}, out.data_ptr<float>() + first, width,
                  /*add=*/false);
  });
  return out;
}

struct LoraLinearFunction : torch::autograd::Function<LoraLinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in, const at::Tensor& a,
                            const at::Tensor& b, int64_t weights_address, int64_t matrix,
                            double scale, KeptOutput* kept) {
    FrozenWeights& weights = weights_at(weights_address);
    const at::Tensor x = x_in.contiguous();
    const int64_t rank = a.size(0);
    const at::Tensor z =
        narrow_product(weights, x, {a.data_ptr<float>(), a.size(1), /*transposed=*/true}, rank)
            .mul_(scale);
    const at::Tensor y = make_or_take(weights, kept, [&] {
      at::Tensor sum = weights.multiply(matrix_at(matrix), x);
      add_wide_product(weights, z, b, /*transposed=*/true, sum);
      return sum;
    });
    context->save_for_backward({x, a, b, z});
    context->saved_data["weights"] = weights_address;
    context->saved_data["matrix"] = matrix;
    context->saved_data["scale"] = scale;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &a = saved[1], &b = saved[2], &z = saved[3];
    FrozenWeights& weights = weights_at(context->saved_data["weights"].toInt());
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor dz = narrow_product(weights, dy, {b.data_ptr<float>(), b.size(1)}, a.size(0))
                              .mul_(context->saved_data["scale"].toDouble());
    at::Tensor dx;
    if (context->needs_input_grad(0)) {
      dx = weights.multiply_transposed(matrix_at(context->saved_data["matrix"].toInt()), dy);
      add_wide_product(weights, dz, a, /*transposed=*/false, dx);
    }
    const at::Tensor da = gradient_product(weights, dz, x);
    const at::Tensor db = gradient_product(weights, z, dy).t().contiguous();  // z holds the scale
    return {dx, da, db, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor packed_linear(FrozenWeights& weights, const MatrixView& w, const at::Tensor& x,
                         KeptOutput* kept) {
  return PackedLinearFunction::apply(x, reinterpret_cast<int64_t>(&weights),
                                     reinterpret_cast<int64_t>(&w), kept);
}

at::Tensor lora_linear(FrozenWeights& weights, const MatrixView& w, const at::Tensor& x,
                       const at::Tensor& a, const at::Tensor& b, double scale, KeptOutput* kept) {
  return LoraLinearFunction::apply(x, a, b, reinterpret_cast<int64_t>(&weights),
                                   reinterpret_cast<int64_t>(&w), scale, kept);
}

}  // namespace lapidary
