// What a run is asked to do: checks before anything is read, and what must agree to resume it.
#pragma once

#include <map>
#include <string>

#include "finetune/finetune.h"

namespace lapidary {

// Throws kUsage for an option out of range, or an output that must not be replaced.
void validate(const FinetuneOptions& options);

// Everything that decides the arithmetic of a run, as option -> text, but for the hashes of model
// and data. Threads may differ: results do not depend on them.
std::map<std::string, std::string> identity_of(const FinetuneOptions& options);

}  // namespace lapidary
