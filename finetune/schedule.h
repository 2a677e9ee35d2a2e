// The learning rate of each step.
#pragma once

#include <cstdint>
#include <string_view>

namespace lapidary {

enum class Schedule : uint8_t { kConstant, kLinear, kCosine };
// "constant", "linear", "cosine". Throws kUsage.
Schedule parse_schedule(std::string_view name);

// Rises linearly over `warmup` steps, then stays, or falls to zero at `total`. `step` counts from
// 0.
double learning_rate_at(Schedule schedule, double peak, int64_t step, int64_t warmup,
                        int64_t total);

}  // namespace lapidary
