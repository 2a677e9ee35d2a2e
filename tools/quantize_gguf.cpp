// Types first, then rounding, then export from the exact weights with the rounded blocks in place.
#include "tools/quantize_gguf.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "export/gguf_export.h"
#include "formats/error.h"
#include "kernels/ggml_encode.h"
#include "quantize/gguf_rounding.h"
#include "quantize/gguf_types.h"
#include "quantize/scratch_model.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"

namespace lapidary {
namespace {

GgmlType require_type(const std::string& text) {
  const std::optional<GgmlType> type = parse_ggml_type(text);
  if (type && can_encode(*type)) return *type;
  fail(ErrorCode::kUsage,
       "type \"{}\": a GGUF file takes q8_0, q6_k, q5_k, q5_0, q4_k, q4_0, iq4_nl, iq4_xs, q3_k, "
       "bf16, f16 or f32",
       text);
}

GgufTypeOptions type_options(const GgufQuantize& command) {
  const WeightOptions& weights = command.weights;
  if (weights.target != "" && weights.target != "llama.cpp")
    fail(ErrorCode::kUsage, "--for {}: a GGUF file is for llama.cpp", weights.target);
  if (weights.allow_requantize || weights.no_rotation || weights.no_lattices)
    fail(ErrorCode::kUsage,
         "--allow-requantize, --no-rotation and --no-lattices do not go with a .gguf output");
  GgufTypeOptions options;
  // The default of --weights is one of our codes; w4 and w8 stand for what llama.cpp has of the
  // size.
  options.weights = weights.weights == "w4"   ? GgmlType::kQ4_K
                    : weights.weights == "w8" ? GgmlType::kQ8_0
                                              : require_type(weights.weights);
  for (const std::string& rule : weights.keep) {
    const auto [pattern, type] = split_keep(rule, "PATTERN=TYPE, for example *.o_proj.*=q6_k");
    options.keep.emplace_back(pattern, require_type(type));
  }
  if (command.budget.given()) {
    const BudgetText& budget = command.budget;
    if (!budget.codes.empty())
      fail(ErrorCode::kUsage, "--codes is for .lap files; a .gguf output chooses among its types");
    const BudgetOptions asked = budget.resolve(Target::kLapidary);
    options.bits_per_weight = asked.bits_per_weight;
    options.tensor_bytes = asked.file_bytes;
    options.max_kld = asked.max_kld;
    options.n_tokens = asked.n_tokens;
    options.fisher = asked.fisher;
  }
  options.calibration = command.calibration;
  if (command.calibration) options.text = command.calibration->text;
  options.scratch = command.output;
  options.n_threads = command.n_threads;
  return options;
}

void report(const GgufQuantize& command, const GgufExportReport& r, const GgufRounding& rounding,
            std::optional<double> kld, double seconds) {
  if (!command.out.json) {
    fmt::print("{}: {} ({:.3f} bits per weight), {} of {} tensors calibrated, in {}\n",
               command.output, format_bytes(static_cast<double>(r.file_bytes)), r.bits_per_weight,
               rounding.files.size(), r.tensors.size(), format_duration(seconds));
    if (kld) fmt::print("types by limit: measured KLD {:.5f}\n", *kld);
    return;
  }
  nlohmann::ordered_json json{{"bits_per_weight", r.bits_per_weight},
                              {"file_bytes", r.file_bytes},
                              {"tensors", nlohmann::ordered_json::array()}};
  for (const GgufExportReport::Tensor& t : r.tensors) {
    json["tensors"].push_back({{"name", t.source}, {"type", traits(t.type).name}});
    const auto error = rounding.output_errors.find(t.source);
    if (error != rounding.output_errors.end())
      json["tensors"].back()["output_error"] = error->second;
  }
  if (kld) json["measured_kld"] = *kld;
  json["seconds"] = seconds;
  json["peak_rss_bytes"] = peak_rss_bytes();
  fmt::print("{}\n", json.dump());
}

}  // namespace

bool is_gguf_output(const std::string& path) { return path.ends_with(".gguf"); }

void quantize_to_gguf(const GgufQuantize& command) {
  const auto start = std::chrono::steady_clock::now();
  GgufTypeOptions options = type_options(command);
  if (command.dry_run || command.needs_lap)
    fail(ErrorCode::kUsage, "--dry-run, --kv and --report do not go with a .gguf output");
  ProgressLine progress(command.out.quiet);
  const Events events = progress.events();
  const auto source = open_source(command.source);
  const ExactModel exact(*source, command.source, command.output, events);
  const auto model = LapReader::open(exact.path());
  if (options.tensor_bytes) {  // of the file so far
    const uint64_t overhead = gguf_overhead_bytes(*model);
    *options.tensor_bytes -= std::min(overhead, *options.tensor_bytes);
  }
  GgufExportOptions how;
  const GgufTypes chosen = choose_gguf_types(*model, exact.path(), options, events);
  how.types = chosen.types;
  how.n_threads = command.n_threads;
  const auto write = [&](const GgufRounding& rounding) {
    how.rounded = rounding.files;
    if (!rounding.description.empty()) how.card.lossy_steps.push_back(rounding.description);
    const GgufExportReport r = export_gguf(*model, command.output, how, events);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    report(command, r, rounding, chosen.measured_kld, seconds.count());
  };
  if (command.calibration)
    round_for_gguf(*model, command.output, how.types, *command.calibration, command.n_threads,
                   events, write);
  else
    write({});
}

}  // namespace lapidary
