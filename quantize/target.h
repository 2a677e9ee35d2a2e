// Whose runtime a quantized file is meant for, and which codes survive the way there.
//
// Other runtimes hold integers under one scale per 32 inputs in the model's own basis: w4x and w8x
// move into their formats integer by integer, and what calibration decided stays decided. Rotated
// codes, and codes with two levels of scales, would be rounded a second time by export.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "formats/model_source.h"

namespace lapidary {

enum class Target : uint8_t { kLapidary, kLlamaCpp, kVllm, kMlx };

// "llama.cpp", "vllm" or "mlx".
std::optional<Target> parse_target(std::string_view name);
std::string_view target_name(Target target);

// What the target holds of `wanted`: w4 and w8 mean w4x and w8x there. Throws kUsage for codes that
// it cannot hold, naming those that it can.
Code held_code(Target target, Code wanted);

// The same for one tensor: floats where the target keeps this tensor, or rows of its width, as
// floats; then the source's own code is returned.
Code held_code(Target target, const SourceTensor& tensor, Code wanted);

// What a budget chooses among; the probes that tell what tensors cost are made with the first and
// the last of them.
std::vector<Code> held_codes(Target target);

}  // namespace lapidary
