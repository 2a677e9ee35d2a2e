// lapidary convert: a Hugging Face folder or a GGUF file into one .lap file, without loss and
// without holding it in memory.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/gguf_source.h"
#include "convert/hf_source.h"
#include "formats/provenance.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct ConvertCommand {
  std::string source, output, config_file = "config.json";
  OutputOptions out;

  std::unique_ptr<ModelSource> open() const {
    if (is_gguf(source)) return GgufSource::open(source);
    return HfSource::open(source, config_file);
  }

  int run() const {
    refuse_to_replace(output, {source});
    ProgressLine progress(out.quiet);
    const std::unique_ptr<ModelSource> model = open();
    const ConvertReport report = convert(*model, output, progress.events());
    if (out.json) {
      nlohmann::ordered_json json;
      json["file_bytes"] = report.file_bytes;
      json["tensors"] = report.n_tensors;
      json["parameters"] = report.n_parameters;
      json["content_hash"] = report.content_hash;
      json["skipped"] = report.skipped;
      json["seconds"] = report.seconds;
      json["peak_rss_bytes"] = peak_rss_bytes();
      fmt::print("{}\n", json.dump());
      return 0;
    }
    for (const std::string& line : provenance_from_json(model->metadata().provenance).lossy_steps)
      fmt::print("note: {}\n", line);
    for (const std::string& line : report.skipped) fmt::print("left out: {}\n", line);
    fmt::print("{}: {} tensors, {:.2f} M parameters, {} in {} (peak memory {})\n", output,
               report.n_tensors, static_cast<double>(report.n_parameters) / 1e6,
               format_bytes(static_cast<double>(report.file_bytes)),
               format_duration(report.seconds),
               format_bytes(static_cast<double>(peak_rss_bytes())));
    return 0;
  }
};

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  auto command = std::make_shared<ConvertCommand>();
  CLI::App* sub =
      app.add_subcommand("convert", "Hugging Face folder or GGUF to a .lap file, bit for bit");
  sub->add_option("source", command->source,
                  "Folder with config.json, tokenizer.json, safetensors; or a GGUF file")
      ->required()
      ->type_name("SRC");
  sub->add_option("-o,--output", command->output, "The .lap file to write")
      ->required()
      ->type_name("FILE");
  sub->add_option("--config-file", command->config_file, "Which config in the folder to read")
      ->type_name("NAME")
      ->capture_default_str();
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary convert gemma-4-E2B-it -o e2b.lap\n"
      "  lapidary convert gemma-4-E2B-Q8_0.gguf -o e2b-q8.lap\n"
      "  lapidary convert tests/data/nano-e -o nano-e.lap --json");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
