// `finetune --dry-run`: the memory plan of a run, printed.
#pragma once

#include "finetune/finetune.h"

namespace lapidary {

// options.model: a .lap file, of which only the header is read, or one of synthetic_shapes(),
// planned with every matrix in w4. Throws kUsage, kNotFound, kBadData.
void print_memory_plan(const FinetuneOptions& options, bool json);

}  // namespace lapidary
