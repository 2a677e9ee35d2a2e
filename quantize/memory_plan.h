// What calibration will hold in memory at its peak, part by part, from shapes alone.
//
// Everything that grows with the model or the text is counted; a few tens of megabytes of code,
// tables and small buffers are one line of their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/lap.h"
#include "quantize/calibration.h"

namespace lapidary {

struct MemoryPart {
  std::string what;  // with the arithmetic: "hidden states: 32768 tokens x 5376 x 4"
  uint64_t bytes = 0;
};
struct MemoryPlan {
  std::vector<MemoryPart> parts;  // together at the peak
  uint64_t bytes = 0;
};

// `entries`: the plan of the file. n_tokens: as many as the text gives, or at most options'.
MemoryPlan plan_calibration_memory(const ModelSource& source, const std::vector<LapTensor>& entries,
                                   const CalibrationOptions& options, int64_t n_tokens);

// Throws kOutOfMemory, naming the largest part, when the plan is over the limit.
void require_memory(const MemoryPlan& plan, uint64_t limit);

}  // namespace lapidary
