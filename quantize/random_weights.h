// A .lap of given shapes whose packed weights are drawn at random instead of rounded: files for
// measuring, written at the speed of the disk.
#pragma once

#include <string>

#include "quantize/quantize.h"

namespace lapidary {

// Codes, layouts and sizes are those that quantize() would choose. Indices and multipliers use
// their whole range and scales give weights the standard deviation `deviation`, so kernels meet
// neither zeros nor denormals; panels repeat after some hundred thousand weights, so compression
// ratios mean nothing. Float tensors come from the source. Memory: some tens of megabytes. Throws
// as quantize().
QuantizeReport write_random(const ModelSource& source, const std::string& output, float deviation,
                            const QuantizeOptions& options, const Events& events);

}  // namespace lapidary
