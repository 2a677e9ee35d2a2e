// From the names in a checkpoint to the canonical tensors of the text model.
//
// Accepts "model.layers...", the composite "model.language_model.layers..." and MLX's
// "language_model.model.layers...". Every tensor on disk must be wanted, knowingly left out, or
// part of a tower; anything else is an Error, as is a missing, doubled or wrongly shaped one.
#pragma once

#include <string>
#include <vector>

#include "convert/family.h"
#include "formats/model_source.h"
#include "formats/safetensors.h"

namespace lapidary {

struct MappedTensors {
  std::vector<SourceTensor> tensors;  // file order
  std::vector<size_t> entries;        // index into SafetensorsSet::entries(), per tensor
  std::vector<std::string> skipped;   // one line per group left out
  // A stored copy of the tied head, to be compared with the embedding; -1: none.
  int64_t duplicated_head = -1;  // index into entries()
};
MappedTensors map_tensors(const std::vector<SafetensorsEntry>& entries,
                          const ExpectedTensors& expected, bool tied_head);

}  // namespace lapidary
