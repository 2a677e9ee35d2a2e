// What rounding one tensor costs at the model's output: the KL divergence from the exact model when
// only that tensor is rounded, all others exact. A stack of experts is one tensor.
//
// This is a finite difference of the very loss that is to be kept small, through the runtime that
// will run the file: no Hessian, no gradient, no assumption about which layers matter. At the
// errors of 3 to 8 bits the divergence is quadratic in the error, so costs of tensors add up and
// one probe code tells of the others; docs/quantization.md has the measurements.
#pragma once

#include <string>
#include <vector>

#include "quantize/output_divergence.h"
#include "runtime/model_overlay.h"

namespace lapidary {

struct Sensitivity {
  std::string tensor;
  double kld = 0;  // nats per token, of this tensor alone as the overlay's other file has it
};

// One entry per tensor that the model computes with, in the order given. The overlay is left exact.
std::vector<Sensitivity> measure_sensitivity(ModelOverlay& overlay, const TokenWindows& windows,
                                             const std::vector<std::string>& tensors, int n_threads,
                                             const Events& events);

}  // namespace lapidary
