// How much of a tensor each code loses: relative squared error of plain rounding, on a sample of
// its rows.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/thread_pool.h"
#include "quantize/quantize.h"

namespace lapidary {

// ||W - W'||^2 / ||W||^2 over up to 16 panels of 16 rows spread over the tensor (two of them for
// trellis codes), as plan_tensors() would store it in each of `codes`. Infinite where the code
// cannot hold the weights; 0 for a tensor of zeros. REQUIRES: packed codes, a tensor that can be
// packed (see packable()).
std::map<Code, double> code_errors(const ModelSource& source, size_t tensor,
                                   const std::vector<Code>& codes, const QuantizeOptions& options,
                                   ThreadPool& pool);

}  // namespace lapidary
