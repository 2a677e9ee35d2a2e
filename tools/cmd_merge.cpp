// lapidary merge: an adapter into its master, rounded once.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "quantize/merge.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/recipe.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct MergeCommand {
  std::string base, adapter, output, weights;
  int n_threads = 0;
  OutputOptions out;

  int run(const CLI::App& sub) const {
    MergeOptions options;
    if (!weights.empty()) {
      options.weights = parse_code(weights);
      if (!options.weights)
        fail(ErrorCode::kUsage,
             "--weights \"{}\": expected t6, t5, t4, t3, w8, w6, w5, w4, w3, w4x or w8x", weights);
    }
    options.n_threads = n_threads;
    options.recipe = resolved_recipe(sub);
    refuse_to_replace(output, {base, adapter});
    ProgressLine progress(out.quiet);
    const MergeReport report = merge(base, adapter, output, options, progress.events());
    if (out.json) {
      nlohmann::ordered_json json;
      json["file_bytes"] = report.file_bytes;
      json["merged_modules"] = report.merged_modules;
      json["content_hash"] = report.content_hash;
      json["seconds"] = report.seconds;
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{}: {} modules merged, {} in {}\n", output, report.merged_modules,
                 format_bytes(static_cast<double>(report.file_bytes)),
                 format_duration(report.seconds));
    }
    return 0;
  }
};

}  // namespace

void add_merge(CLI::App& app, Action& action) {
  auto command = std::make_shared<MergeCommand>();
  CLI::App* sub = app.add_subcommand("merge", "Fold a LoRA adapter into its bf16 master");
  sub->add_option("base", command->base,
                  "The float .lap the adapter belongs to (or its base's source)")
      ->required()
      ->type_name("M.lap");
  sub->add_option("adapter", command->adapter, "PEFT folder")->required()->type_name("DIR");
  sub->add_option("-o,--output", command->output, "The .lap file to write")
      ->required()
      ->type_name("FILE");
  sub->add_option("--weights", command->weights,
                  "Quantize the merged weights straight to this code")
      ->type_name("CODE");
  add_threads_option(*sub, command->n_threads);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary merge model.lap tuned/ -o tuned.lap\n"
      "  lapidary merge model.lap tuned/ -o tuned-w4.lap --weights w4");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
