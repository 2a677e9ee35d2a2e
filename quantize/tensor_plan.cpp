// The rules of quantize's plan, plan() itself (sizes without work), and which rules found nothing.
#include "quantize/tensor_plan.h"

#include <fnmatch.h>

#include <algorithm>

#include "formats/lap_copy.h"
#include "formats/provenance.h"

namespace lapidary {
namespace {

// Inputs below which padding to 64 would cost more than packing saves.
constexpr int64_t kNarrowestK = kTileK;

// Small, and every token passes through them: a wrong expert or a wrong projection of all per-layer
// inputs costs more than their bits.
constexpr std::string_view kSensitive[] = {"router.proj.weight",
                                           "per_layer_model_projection.weight"};

bool matches(const std::string& pattern, const std::string& tensor_name) {
  return fnmatch(pattern.c_str(), tensor_name.c_str(), 0) == 0;
}

// Read for every token and multiplied for every logit: where three bits are for all, a bit more for
// this matrix takes off more than the same bytes anywhere else.
Code head_code(Code code) {
  switch (code) {
    case Code::kT3:
      return Code::kT4;
    case Code::kW3:
      return Code::kW4;
    default:
      return code;
  }
}

Code chosen_code(const SourceTensor& tensor, const ModelConfig& config,
                 const QuantizeOptions& options) {
  for (const auto& [pattern, code] : options.keep)
    if (matches(pattern, tensor.name)) return code;
  for (const std::string_view suffix : kSensitive)
    if (tensor.name.ends_with(suffix) && traits(options.weights).bits < 8) return Code::kW8;
  const bool both_ends = config.tied_head && tensor.name == head_name(config);
  return both_ends && options.finer_head ? head_code(options.weights) : options.weights;
}

// Sequences of a few weights are no trellis: the scalar code of the same size.
Code without_trellis(Code code) {
  switch (code) {
    case Code::kT3:
      return Code::kW3;
    case Code::kT4:
      return Code::kW4;
    case Code::kT5:
      return Code::kW5;
    case Code::kT6:
      return Code::kW6;
    default:
      return code;
  }
}

LapTensor plan_tensor(const SourceTensor& tensor, const ModelConfig& config,
                      const QuantizeOptions& options) {
  LapTensor entry;
  entry.name = tensor.name;
  entry.shape = tensor.shape;
  const bool per_layer = tensor.name == kPleTensor && config.ple_width > 0;
  const bool packable = tensor.shape.size() > 1 && (per_layer || tensor.k() >= kNarrowestK);
  const bool stays = !packable && traits(tensor.code).is_float;
  entry.code =
      stays ? tensor.code : held_code(options.target, tensor, chosen_code(tensor, config, options));
  if (per_layer && config.ple_width % kGroupK != 0)
    entry.code = options.target == Target::kLapidary ? without_trellis(entry.code) : tensor.code;
  const bool is_float = traits(entry.code).is_float;
  if (per_layer) {
    entry.layout = Layout::kRowTable;
    entry.record_width = config.ple_width;
  } else if (!is_float) {
    entry.layout = Layout::kPanels;
    // Codes with a scale per 32 hold imported lattices, which a rotation would destroy.
    entry.rotated = options.rotate && traits(entry.code).scale_k != kGroupK;
  }
  entry.bytes = stored_bytes(entry);
  return entry;
}

// Floats that were quantized before and dequantized on the way in are no original either.
void refuse_dequantized(const ModelSource& source) {
  for (const std::string& step : provenance_from_json(source.metadata().provenance).lossy_steps)
    if (step.starts_with("source: "))
      fail(ErrorCode::kUsage,
           "{}: made from quantized weights ({}); quantize the bf16 original, or give "
           "--allow-requantize and accept the loss of both steps",
           source.describe(), step.substr(8));
}

}  // namespace

std::vector<LapTensor> plan_tensors(const ModelSource& source, const QuantizeOptions& options) {
  if (!options.allow_requantize) refuse_dequantized(source);
  const ModelConfig& config = source.metadata().config;
  if (config.is_assistant() && options.calibration)
    fail(ErrorCode::kUsage,
         "{}: an assistant reads another model's cache and cannot be calibrated alone; drop "
         "--calibrate",
         source.describe());
  std::vector<LapTensor> plan;
  for (const SourceTensor& tensor : source.tensors()) {
    if (!traits(tensor.code).is_float && !options.allow_requantize)
      fail(ErrorCode::kUsage,
           "{}: already quantized (tensor {} is {}); quantize the bf16 original, or give "
           "--allow-requantize and accept the loss of both steps",
           source.describe(), tensor.name, code_name(tensor.code));
    plan.push_back(plan_tensor(tensor, config, options));
  }
  return plan;
}

bool is_kept(const std::string& tensor, const QuantizeOptions& options) {
  return std::any_of(options.keep.begin(), options.keep.end(),
                     [&](const auto& rule) { return matches(rule.first, tensor); });
}

QuantizeReport plan(const ModelSource& source, const QuantizeOptions& options) {
  QuantizeReport report;
  int64_t n_weights = 0;
  const std::vector<LapTensor> entries = plan_tensors(source, options);
  for (const LapTensor& entry : entries) {
    const double bits = 8.0 * static_cast<double>(entry.bytes) / entry.elements();
    report.tensors.push_back({entry.name, entry.code, bits, 0.0, {}, entry.bytes});
    report.bytes += entry.bytes;
    n_weights += entry.elements();
  }
  if (options.calibration)
    report.memory = plan_calibration_memory(source, entries, *options.calibration,
                                            options.calibration->max_tokens);
  report.bits_per_weight = n_weights ? 8.0 * static_cast<double>(report.bytes) / n_weights : 0.0;
  return report;
}

std::vector<std::string> unmatched_patterns(const QuantizeOptions& options,
                                            const QuantizeReport& report) {
  std::vector<std::string> unmatched;
  for (const auto& [pattern, code] : options.keep) {
    const bool used = std::any_of(report.tensors.begin(), report.tensors.end(),
                                  [&](const TensorReport& t) { return matches(pattern, t.name); });
    if (!used) unmatched.push_back(pattern);
  }
  return unmatched;
}

}  // namespace lapidary
