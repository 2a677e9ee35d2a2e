// lapidary bench: how fast a model runs here, and files of a true shape to measure with.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "convert/synthetic.h"
#include "formats/error.h"
#include "formats/file.h"
#include "quantize/random_weights.h"
#include "tools/cli/command_options.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct BenchCommand {
  std::string weights = "w4", output;
  SyntheticModel synthetic;
  OutputOptions out;

  int run() const { return write_synthetic(); }

  int write_synthetic() const {
    QuantizeOptions options;
    const auto code = parse_code(weights);
    if (!code)
      fail(ErrorCode::kUsage,
           "--weights \"{}\": expected w8, w6, w5, w4, w3, w4x, w8x, bf16, f16 or f32", weights);
    options.weights = *code;
    if (output.empty()) fail(ErrorCode::kUsage, "--synthetic needs -o FILE");
    const std::unique_ptr<ModelSource> source = synthetic_source(synthetic);
    ProgressLine progress(out.quiet);
    const QuantizeReport report =
        write_random(*source, output, kSyntheticDeviation, options, progress.events());
    if (out.json) {
      const nlohmann::ordered_json json{{"bits_per_weight", report.bits_per_weight},
                                        {"bytes", report.bytes},
                                        {"file_bytes", report.file_bytes},
                                        {"seconds", report.seconds}};
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{}: {} of random weights ({:.3f} bits per weight) in {}\n", output,
                 format_bytes(static_cast<double>(report.file_bytes)), report.bits_per_weight,
                 format_duration(report.seconds));
    }
    return 0;
  }
};

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto command = std::make_shared<BenchCommand>();
  CLI::App* sub = app.add_subcommand("bench", "Write models of a true shape to measure with");
  sub->add_option("--synthetic", command->synthetic.shape,
                  "Write random weights of this shape: e2b, e4b, 26b-a4b, 31b")
      ->type_name("SHAPE")
      ->required();
  sub->add_option("--weights", command->weights, "Code of every matrix of a synthetic model")
      ->type_name("CODE")
      ->capture_default_str();
  sub->add_option("--layers", command->synthetic.n_layers,
                  "Only the first N layers, up to a whole attention period")
      ->type_name("N");
  sub->add_option("--vocab", command->synthetic.vocab_size, "Rows of the vocabulary")
      ->type_name("N")
      ->capture_default_str();
  sub->add_option("-o,--output", command->output, "The .lap file to write")->type_name("FILE");
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary bench --synthetic e2b --weights w4 -o e2b-w4.lap\n"
      "  lapidary bench --synthetic 26b-a4b --layers 6 -o cut.lap");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
