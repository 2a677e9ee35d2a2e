// lapidary quantize: weights to 8, 6, 5, 4 or 3 bits; --dry-run prints what would come out first.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "quantize/quantize.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/recipe.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

Code require_code(const std::string& text) {
  if (const auto code = parse_code(text)) return *code;
  fail(ErrorCode::kUsage, "code \"{}\": expected w8, w6, w5, w4, w3, w4x, w8x, bf16, f16 or f32",
       text);
}

struct QuantizeCommand {
  std::string source, output, weights = "w4";
  std::vector<std::string> keep;
  bool dry_run = false, allow_requantize = false, no_rotation = false;
  int n_threads = 0;
  OutputOptions out;

  QuantizeOptions options(const CLI::App& sub) const {
    QuantizeOptions options;
    options.weights = require_code(weights);
    for (const std::string& rule : keep) {
      const size_t equals = rule.rfind('=');
      if (equals == std::string::npos || equals == 0)
        fail(ErrorCode::kUsage,
             "--keep \"{}\": expected PATTERN=CODE, for example *.o_proj.weight=w8", rule);
      options.keep.emplace_back(rule.substr(0, equals), require_code(rule.substr(equals + 1)));
    }
    options.allow_requantize = allow_requantize;
    options.rotate = !no_rotation;
    options.n_threads = n_threads;
    options.recipe = resolved_recipe(sub);
    return options;
  }

  int run(CLI::App& sub) {
    apply_recipe(sub);
    if (output.empty() && !dry_run)
      fail(ErrorCode::kUsage, "quantize needs -o FILE (or --dry-run to see sizes first)");
    if (!dry_run) refuse_to_replace(output, {source});
    const QuantizeOptions resolved = options(sub);
    ProgressLine progress(out.quiet);
    const auto model = open_source(source);
    const QuantizeReport report =
        dry_run ? plan(*model, resolved) : quantize(*model, output, resolved, progress.events());
    for (const std::string& pattern : unmatched_patterns(resolved, report))
      fmt::print(stderr, "note: --keep {}: no tensor has such a name\n", pattern);
    if (out.json)
      print_json(report);
    else
      print_text(report);
    return 0;
  }

  static void print_json(const QuantizeReport& report) {
    nlohmann::ordered_json json;
    json["bits_per_weight"] = report.bits_per_weight;
    json["bytes"] = report.bytes;
    json["file_bytes"] = report.file_bytes;
    json["tensors"] = nlohmann::ordered_json::array();
    for (const TensorReport& t : report.tensors)
      json["tensors"].push_back({{"name", t.name},
                                 {"code", code_name(t.code)},
                                 {"bits", t.bits},
                                 {"relative_error", t.relative_error}});
    json["seconds"] = report.seconds;
    json["peak_rss_bytes"] = peak_rss_bytes();
    fmt::print("{}\n", json.dump());
  }

  void print_text(const QuantizeReport& report) const {
    if (dry_run) {
      for (const TensorReport& t : report.tensors)
        fmt::print("{:60} {:5} {:6.3f} bits {:>10}\n", t.name, code_name(t.code), t.bits,
                   format_bytes(static_cast<double>(t.bytes)));
      fmt::print("would write {} of tensors, {:.3f} bits per weight; nothing was written\n",
                 format_bytes(static_cast<double>(report.bytes)), report.bits_per_weight);
      return;
    }
    fmt::print("{}: {} ({:.3f} bits per weight) in {} (peak memory {})\n", output,
               format_bytes(static_cast<double>(report.file_bytes)), report.bits_per_weight,
               format_duration(report.seconds),
               format_bytes(static_cast<double>(peak_rss_bytes())));
  }
};

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* sub = app.add_subcommand("quantize", "Pack weights to 8, 6, 5, 4 or 3 bits");
  sub->add_option("source", command->source, "A .lap file or a Hugging Face folder")
      ->required()
      ->type_name("SRC");
  sub->add_option("-o,--output", command->output, "The .lap file to write")->type_name("FILE");
  sub->add_option("--weights", command->weights, "Code of every matrix: w8 w6 w5 w4 w3 w4x w8x")
      ->type_name("CODE")
      ->capture_default_str();
  sub->add_option("--keep", command->keep, "Another code for matching tensors; may be repeated")
      ->type_name("PATTERN=CODE");
  sub->add_flag("--dry-run", command->dry_run, "Print size and bits per tensor, write nothing");
  sub->add_flag("--allow-requantize", command->allow_requantize,
                "Quantize a source that is already quantized (errors add up)");
  sub->add_flag("--no-rotation", command->no_rotation, "Do not rotate inputs (for comparison)");
  add_threads_option(*sub, command->n_threads);
  add_recipe_option(*sub);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary quantize model.lap -o model-w4.lap --weights w4\n"
      "  lapidary quantize gemma-4-E2B-it -o e2b-w4.lap --dry-run\n"
      "  lapidary quantize model.lap -o q.lap --weights w3 --keep 'model.embed_tokens.weight=w6'");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
