// A calibration from its work folder to the written file, and what is said of it.
#include "formats/error.h"
#include "quantize/calibrator.h"

namespace lapidary {

void calibrate_and_write(const ModelSource& source, const std::string& output,
                         const std::vector<LapTensor>& entries, const CalibrationWindows& text,
                         const CalibrationOptions& options, int n_threads, const Events& events,
                         const std::function<void(const WorkFolder&)>& write) {
  WorkFolder folder(output, run_identity(source, entries, options, text), options.resume);
  try {
    Calibrator(source, entries, text, options, n_threads, folder, events).run();
    write(folder);
  } catch (const Error& error) {
    const bool interrupted = error.code() == ErrorCode::kInterrupted;
    if (!(interrupted || error.code() == ErrorCode::kIo) || folder.layers_done() == 0 ||
        !options.resumable)
      throw;
    folder.keep();
    fail(error.code(),
         "{}; {} of {} layers are kept, the same command with --resume goes on from there",
         interrupted ? "interrupted" : error.what(), folder.layers_done(),
         source.metadata().config.n_layers());
  }
}

std::string describe_calibration(const CalibrationOptions& options,
                                 const CalibrationWindows& text) {
  return fmt::format(
      "rounding with error feedback, calibrated on {} tokens of {} (hash {}) in windows of {}{}",
      text.n_tokens, options.text_name, text.hash, options.context,
      options.sequential ? "" : ", inputs from the exact model");
}

}  // namespace lapidary
