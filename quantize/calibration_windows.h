// The text that calibration runs on, as windows of tokens.
#pragma once

#include <string>
#include <vector>

#include "formats/model_source.h"
#include "quantize/calibration.h"

namespace lapidary {

struct CalibrationWindows {
  std::vector<std::vector<int32_t>>
      windows;           // BOS first, where the model has one; each >= 2 tokens
  int64_t n_tokens = 0;  // of all windows
  std::string hash;      // of the tokens, hex
};

// The first max_tokens tokens of the text (all, if it is shorter), cut into windows; the last may
// be short. Throws kBadData for an empty text and for a source without a tokenizer, kUsage for
// numbers out of range.
CalibrationWindows calibration_windows(const ModelSource& source,
                                       const CalibrationOptions& options);

}  // namespace lapidary
