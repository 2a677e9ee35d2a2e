// One plan per code; of each tensor the smallest counts.
#include "quantize/budget_floor.h"

#include <algorithm>

#include "formats/error.h"
#include "quantize/tensor_costs.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

void require_floats(const ModelSource& source) {
  for (const SourceTensor& t : source.tensors())
    if (!traits(t.code).is_float)
      fail(ErrorCode::kUsage,
           "{}: tensor {} is {} already; a bit budget is shared out by what rounding costs the "
           "float original, so give that",
           source.describe(), t.name, code_name(t.code));
}

}  // namespace

void refuse_impossible(const ModelSource& source, const QuantizeOptions& options,
                       const BudgetOptions& budget) {
  require_floats(source);
  if (budget.max_kld) return;
  std::vector<uint64_t> smallest;
  double n_weights = 0;
  for (const Code code : budget.codes.empty() ? allocatable_codes() : budget.codes) {
    QuantizeOptions uniform = options;
    uniform.weights = code;
    uniform.finer_head = false;
    const std::vector<LapTensor> plan = plan_tensors(source, uniform);
    if (smallest.empty())
      for (const LapTensor& t : plan) {
        smallest.push_back(t.bytes);
        n_weights += static_cast<double>(t.elements());
      }
    for (size_t i = 0; i < plan.size(); ++i) smallest[i] = std::min(smallest[i], plan[i].bytes);
  }
  uint64_t least = 0;
  for (const uint64_t bytes : smallest) least += bytes;
  const double limit = budget.bits_per_weight ? *budget.bits_per_weight * n_weights / 8.0
                                              : static_cast<double>(*budget.file_bytes);
  if (static_cast<double>(least) <= limit) return;
  fail(ErrorCode::kUsage,
       "{}: the smallest possible is {} bytes of tensors ({:.3f} bits per weight), the budget "
       "allows {:.0f}",
       source.describe(), least, 8.0 * static_cast<double>(least) / n_weights, limit);
}

}  // namespace lapidary
