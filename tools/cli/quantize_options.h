// The options of `quantize`, group by group: declared here, resolved into what the library takes.
#pragma once

#include <string>
#include <vector>

#include "quantize/quantize.h"

namespace CLI {
class App;
}

namespace lapidary {

// Which code a tensor gets, and how it is rounded: --weights, --keep, --allow-requantize,
// --no-rotation.
struct WeightOptions {
  std::string weights = "w4";
  std::vector<std::string> keep;
  bool allow_requantize = false, no_rotation = false;
  // Throws kUsage for unknown codes and rules that are no rules.
  QuantizeOptions resolve() const;
};
void add_weight_options(CLI::App& command, WeightOptions& options);

}  // namespace lapidary
