// --greedy, --temperature and the other options of sampling, over what the model itself asks for.
#pragma once

#include "formats/model_source.h"
#include "runtime/sampling.h"

namespace CLI {
class App;
}

namespace lapidary {

struct SamplingChoice {
  SamplingOptions given;  // by the command line
  bool greedy = false;
  // Options that were not given are the model's own. Throws kUsage for values out of range.
  SamplingOptions resolved(const CLI::App& command, const ModelMetadata& metadata) const;
};
void add_sampling_options(CLI::App& command, SamplingChoice& choice);

}  // namespace lapidary
