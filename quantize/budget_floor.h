// Budgets that cannot be kept, known without computing anything.
#pragma once

#include "quantize/budget.h"

namespace lapidary {

// Throws kUsage for a source that is packed already, and when every open tensor in its smallest
// code makes more than the budget: measuring what each tensor costs takes minutes to hours, and
// would end in the same message.
void refuse_impossible(const ModelSource& source, const QuantizeOptions& options,
                       const BudgetOptions& budget);

}  // namespace lapidary
