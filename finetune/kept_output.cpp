// Rounding on the way in, widening on the way out.
#include "finetune/kept_output.h"

#include <ATen/ATen.h>

namespace lapidary {

void KeptOutput::put(FrozenWeights& weights, const at::Tensor& y) {
  if (weights.precision() == Precision::kFloat32) {
    value_ = y;
    return;
  }
  const at::Tensor rounded = at::empty(y.sizes(), at::kBFloat16);
  weights.parallel_rows(y.size(0), y.numel() / y.size(0), [&](int64_t first, int64_t n) {
    rounded.narrow(0, first, n).copy_(y.narrow(0, first, n));
    y.narrow(0, first, n).copy_(rounded.narrow(0, first, n));
  });
  value_ = rounded;
}

at::Tensor KeptOutput::take(FrozenWeights& weights) {
  const at::Tensor value = std::exchange(value_, {});
  if (value.scalar_type() == at::kFloat) return value;
  at::Tensor y = at::empty(value.sizes(), at::kFloat);
  weights.parallel_rows(y.size(0), y.numel() / y.size(0), [&](int64_t first, int64_t n) {
    y.narrow(0, first, n).copy_(value.narrow(0, first, n));
  });
  return y;
}

}  // namespace lapidary
