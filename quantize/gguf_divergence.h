// How far a model's next-token distributions move when its matrices become GGUF blocks: measured in
// our runtime, on the blocks' values.
//
// They stand in a scratch .lap in the source's float code. In bf16 that adds a squared error of
// 2.4e-6 of the weights', a tenth of q8_0's and nothing beside the other types'.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "formats/events.h"
#include "formats/ggml_type.h"
#include "quantize/calibration.h"
#include "quantize/tensor_costs.h"

namespace lapidary {

// Mean KL divergence from probe.base in nats per token, on windows that the probes did not see, of
// the model with matrices as `types` say. With `calibration` they are rounded as round_for_gguf()
// does, plainly without. Throws what rounding and writing scratch files throw.
double measure_gguf_types(const ModelSource& source, const std::map<std::string, GgmlType>& types,
                          const std::optional<CalibrationOptions>& calibration,
                          const ProbeOptions& probe, int n_threads, const Events& events);

}  // namespace lapidary
