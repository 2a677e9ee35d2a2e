// A model's matrices as GGUF blocks, rounded with error feedback for export to take as they are.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "formats/events.h"
#include "formats/ggml_type.h"
#include "quantize/quantize.h"

namespace lapidary {

struct GgufRounding {
  std::map<std::string, std::string> files;     // by tensor: rows of blocks, one after another
  std::map<std::string, double> output_errors;  // tr(E H E^T) / tr(W H W^T)
  std::string description;                      // for provenance
};

// Calibrates every tensor of `types` whose type has blocks and whose inputs can be measured; the
// rest is export's to round plainly. `write` writes the output, while the files exist: they lie in
// a folder beside `output`. Throws as quantize().
void round_for_gguf(const ModelSource& source, const std::string& output,
                    const std::map<std::string, GgmlType>& types,
                    const CalibrationOptions& calibration, int n_threads, const Events& events,
                    const std::function<void(const GgufRounding&)>& write);

}  // namespace lapidary
