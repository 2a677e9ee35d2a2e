// quantize: a model source into a .lap with packed weights.
//
// Plain rounding: per 32 inputs (or scale block) the scale and multiplier that minimise the squared
// error, found by a clip search; K rotated by the signed WHT of 64 where the code allows. Streams
// panel by panel.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/events.h"
#include "formats/lap.h"
#include "quantize/calibration.h"
#include "quantize/memory_plan.h"
#include "quantize/target.h"

namespace lapidary {

struct QuantizeOptions {
  Code weights = Code::kW4;
  // Glob pattern on tensor names = code; the first match wins.
  std::vector<std::pair<std::string, Code>> keep;
  bool allow_requantize = false;
  bool rotate = true;
  // A code of three bits leaves an embedding that is the head, too, the next finer code of its
  // family (docs/quantization.md); false: that code for it as well. `keep` decides before.
  bool finer_head = true;
  Target target = Target::kLapidary;              // others hold fewer codes (target.h)
  std::optional<CalibrationOptions> calibration;  // none: plain rounding
  int n_threads = 0;
  std::string recipe = "{}";  // resolved options as JSON, recorded in the file
};

struct TensorReport {
  std::string name;
  Code code;
  double bits = 0;            // per weight, scales and padding included
  double relative_error = 0;  // ||W - W'||^2 / ||W||^2; 0 for kept tensors
  // Of calibrated tensors: the same of their outputs, tr(E H E^T) / tr(W H W^T).
  std::optional<double> output_error;
  uint64_t bytes = 0;
};

struct QuantizeReport {
  double bits_per_weight = 0;
  uint64_t bytes = 0, file_bytes = 0;
  std::vector<TensorReport> tensors;
  MemoryPlan memory;  // of calibration; empty without
  double seconds = 0;
  std::string content_hash;
};

// Patterns of `options.keep` that name no tensor of the report: mostly typing errors.
std::vector<std::string> unmatched_patterns(const QuantizeOptions& options,
                                            const QuantizeReport& report);

// Sizes only; writes nothing (relative_error stays 0).
QuantizeReport plan(const ModelSource& source, const QuantizeOptions& options);
QuantizeReport quantize(const ModelSource& source, const std::string& output,
                        const QuantizeOptions& options, const Events& events);

}  // namespace lapidary
