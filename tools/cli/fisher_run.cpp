// Text in, one file out.
#include "tools/cli/fisher_run.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "quantize/calibration_text.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"

namespace lapidary {

void add_fisher_options(CLI::App& command, FisherRun& run) {
  command
      .add_option("--fisher", run.output,
                  "Train nothing: write gradient statistics for quantize --fisher, and stop")
      ->type_name("OUT");
  command
      .add_option("--fisher-text", run.text,
                  "Text to measure them on (default: the built-in calibration text)")
      ->type_name("FILE");
  command.add_option("--fisher-tokens", run.n_tokens, "Tokens of it")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
}

int write_gradient_statistics(const FisherRun& run, const std::string& model_path, uint64_t seed,
                              int n_threads, const OutputOptions& out) {
  refuse_to_replace(run.output, {model_path, run.text});
  ProgressLine progress(out.quiet);
  const auto model = Model::load(model_path);
  if (!model->has_tokenizer())
    fail(ErrorCode::kBadData, "{}: has no tokenizer, which --fisher needs", model_path);
  FisherOptions options;
  const ModelMetadata& metadata = model->file().metadata();
  options.tokens = run.text.empty()
                       ? builtin_calibration_tokens(model->tokenizer(), metadata)
                       : calibration_tokens(model->tokenizer(), metadata, read_text(run.text));
  options.n_tokens = run.n_tokens;
  options.seed = seed;
  options.n_threads = n_threads;
  const FisherStatistics statistics = measure_fisher(model, options, progress.events());
  write_fisher(run.output, statistics);
  if (out.json)
    fmt::print("{}\n", nlohmann::ordered_json{{"tokens", statistics.tokens},
                                              {"tensors", statistics.tensors.size()},
                                              {"peak_rss_bytes", peak_rss_bytes()}}
                           .dump());
  else
    fmt::print("{}: gradients of {} tensors over {} tokens (peak memory {})\n", run.output,
               statistics.tensors.size(), statistics.tokens,
               format_bytes(static_cast<double>(peak_rss_bytes())));
  return 0;
}

}  // namespace lapidary
