// quantize with a .gguf output: GGUF's own block types, calibrated, without a .lap between.
#pragma once

#include <string>

#include "tools/cli/command_options.h"
#include "tools/cli/quantize_options.h"

namespace lapidary {

struct GgufQuantize {
  std::string source, output;
  WeightOptions weights;  // codes are names of GGUF types
  BudgetText budget;
  std::optional<CalibrationOptions> calibration;
  bool dry_run = false, needs_lap = false;  // options that only a .lap can keep
  int n_threads = 0;
  OutputOptions out;
};

// Is this output a GGUF file?
bool is_gguf_output(const std::string& path);
// Throws kUsage for options that do not go with GGUF, and what rounding and writing throw.
void quantize_to_gguf(const GgufQuantize& command);

}  // namespace lapidary
