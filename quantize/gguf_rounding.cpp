// quantize's own calibration, with GGUF blocks in place of panels.
#include "quantize/gguf_rounding.h"

#include "quantize/calibrator.h"
#include "quantize/ggml_rounder.h"
#include "quantize/tensor_plan.h"

namespace lapidary {

void round_for_gguf(const ModelSource& source, const std::string& output,
                    const std::map<std::string, GgmlType>& types,
                    const CalibrationOptions& calibration, int n_threads, const Events& events,
                    const std::function<void(const GgufRounding&)>& write) {
  // A plan in which what gets blocks stands as unrotated 8 bits, the rest as it is.
  CalibrationOptions options = calibration;
  QuantizeOptions plan;
  plan.weights = Code::kW8x;
  for (const SourceTensor& t : source.tensors()) {
    const auto found = types.find(t.name);
    if (found != types.end() && is_block_type(found->second))
      options.ggml_types.insert(*found);
    else
      plan.keep.emplace_back(t.name, t.code);
  }
  const std::vector<LapTensor> entries = plan_tensors(source, plan);
  const CalibrationWindows text = calibration_windows(source, options);
  require_memory(plan_calibration_memory(source, entries, options, text.n_tokens),
                 options.memory_bytes);
  calibrate_and_write(source, output, entries, text, options, n_threads, events,
                      [&](const WorkFolder& folder) {
                        GgufRounding rounding;
                        for (const auto& [i, piece] : folder.pieces()) {
                          rounding.files[entries[i].name] = piece.path;
                          rounding.output_errors[entries[i].name] =
                              piece.loss.energy > 0 ? piece.loss.error / piece.loss.energy : 0;
                        }
                        rounding.description = describe_calibration(options, text);
                        write(rounding);
                      });
}

}  // namespace lapidary
