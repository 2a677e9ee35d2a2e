// What a merge stores of one adapted matrix, panel by panel: for training that looks ahead to it.
//
// The same arithmetic and the same rounding as merge() with plain codes, so that a model trained
// against these integers is, once merged, the trained model.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "formats/lap.h"
#include "formats/peft.h"

namespace lapidary {

class MergeRounding {
 public:
  explicit MergeRounding(std::unique_ptr<LapReader> master);

  // Rows [first_row, first_row + 16) of W + s B A, of a stack's `expert` (0 otherwise), rounded and
  // packed as `g` and `rotated` say. Thread-safe. Throws kBadData when the module is not in the
  // master or a weight does not fit the code.
  void round_panel(const LoraModule& module, int64_t expert, const PackedGeometry& g, bool rotated,
                   int64_t first_row, std::span<uint8_t> codes, std::span<uint8_t> meta) const;

 private:
  std::unique_ptr<LapReader> master_;
  std::map<std::string, size_t> tensors_;  // by name
};

}  // namespace lapidary
