// The custom function behind recompute().
#include "finetune/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <utility>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct FunctionHolder : torch::CustomClassHolder {
  explicit FunctionHolder(TensorFunction f) : function(std::move(f)) {}
  TensorFunction function;
};

struct RecomputeFunction : torch::autograd::Function<RecomputeFunction> {
  // The custom-function machinery sees only tensors given one by one: unused places hold `anchor`,
  // an empty tensor that requires a gradient and so keeps the node in the graph even when the first
  // layer's input needs none.
  static variable_list forward(AutogradContext* context, const at::Tensor& anchor,
                               const at::Tensor& x0, const at::Tensor& x1, const at::Tensor& x2,
                               int64_t n_inputs, const c10::intrusive_ptr<FunctionHolder>& holder,
                               bool round_first) {
    (void)anchor;
    const at::Tensor kept = round_first ? x0.to(at::kBFloat16) : x0;
    context->save_for_backward({kept, x1, x2});
    context->saved_data["n"] = n_inputs;
    context->saved_data["f"] = c10::IValue::make_capsule(holder);
    const variable_list all{kept.to(at::kFloat), x1, x2};
    return holder->function({all.begin(), all.begin() + n_inputs});
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const int64_t n = context->saved_data["n"].toInt();
    const auto holder =
        c10::static_intrusive_pointer_cast<FunctionHolder>(context->saved_data["f"].toCapsule());
    variable_list inputs;
    for (const at::Tensor& x : context->get_saved_variables())
      inputs.push_back(x.detach().to(at::kFloat).requires_grad_(true));
    inputs.resize(static_cast<size_t>(n));
    {
      const at::AutoGradMode with_grad(true);
      torch::autograd::backward(holder->function(inputs), gradients);
    }
    variable_list out(7);
    for (size_t i = 0; i < inputs.size(); ++i) out[i + 1] = inputs[i].grad();
    return out;
  }
};

}  // namespace

std::vector<at::Tensor> recompute(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                  bool round_first) {
  const at::Tensor anchor = at::empty({0}, at::kFloat).requires_grad_(true);
  const auto input = [&](size_t i) { return i < inputs.size() ? inputs[i] : anchor; };
  return RecomputeFunction::apply(anchor, input(0), input(1), input(2),
                                  static_cast<int64_t>(inputs.size()),
                                  c10::make_intrusive<FunctionHolder>(f), round_first);
}

}  // namespace lapidary
