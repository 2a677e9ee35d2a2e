// Warm-up and decay.
#include "finetune/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "formats/error.h"

namespace lapidary {

Schedule parse_schedule(std::string_view name) {
  if (name == "constant") return Schedule::kConstant;
  if (name == "linear") return Schedule::kLinear;
  if (name == "cosine") return Schedule::kCosine;
  fail(ErrorCode::kUsage, "schedule \"{}\" is unknown; use constant, linear or cosine", name);
}

double learning_rate_at(Schedule schedule, double peak, int64_t step, int64_t warmup,
                        int64_t total) {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double rest = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double done = std::min(1.0, static_cast<double>(step - warmup) / rest);
  switch (schedule) {
    case Schedule::kConstant:
      break;
    case Schedule::kLinear:
      return peak * (1 - done);
    case Schedule::kCosine:
      return peak * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }
  return peak;
}

}  // namespace lapidary
