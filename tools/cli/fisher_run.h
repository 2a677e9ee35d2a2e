// finetune --fisher: writes what the quantizer's budgets can be planned with, and trains nothing.
#pragma once

#include <cstdint>
#include <string>

#include "finetune/fisher.h"
#include "tools/cli/command_options.h"

namespace lapidary {

struct FisherRun {
  std::string output, text;  // empty: not asked for; the built-in calibration text
  int64_t n_tokens = FisherOptions{}.n_tokens;
};
void add_fisher_options(CLI::App& command, FisherRun& run);

// The whole command; its exit status. Throws as measure_fisher() and reading the text do, and
// kUsage for an output that is one of the inputs.
int write_gradient_statistics(const FisherRun& run, const std::string& model, uint64_t seed,
                              int n_threads, const OutputOptions& out);

}  // namespace lapidary
