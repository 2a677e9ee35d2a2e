// lapidary export: a packed model for other people's runtimes.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "export/gguf_export.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct ExportCommand {
  std::string model, output, to, type = "auto";
  int n_threads = 0;
  OutputOptions out;

  int run() const {
    if (to != "gguf") fail(ErrorCode::kUsage, "--to \"{}\": expected gguf", to);
    GgufExportOptions options;
    options.n_threads = n_threads;
    if (type != "auto") {
      options.type = parse_ggml_type(type);
      if (!options.type)
        fail(
            ErrorCode::kUsage,
            "--type \"{}\": expected auto, f32, f16, bf16, q8_0, q6_k, q5_k, q4_k, q4_0, iq4_nl or "
            "q3_k",
            type);
    }
    refuse_to_replace(output, {model});
    const auto reader = LapReader::open(model);
    ProgressLine progress(out.quiet);
    report(export_gguf(*reader, output, options, progress.events()));
    return 0;
  }

  void report(const GgufExportReport& r) const {
    nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
    size_t n_exact = 0;
    for (const GgufExportReport::Tensor& t : r.tensors) {
      n_exact += t.exact ? 1 : 0;
      tensors.push_back({{"name", t.name},
                         {"code", code_name(t.code)},
                         {"type", traits(t.type).name},
                         {"exact", t.exact}});
    }
    if (out.json) {
      nlohmann::ordered_json json{{"file_bytes", r.file_bytes},
                                  {"bits_per_weight", r.bits_per_weight},
                                  {"tensors", std::move(tensors)},
                                  {"seconds", r.seconds},
                                  {"peak_rss_bytes", peak_rss_bytes()}};
      fmt::print("{}\n", json.dump());
      return;
    }
    fmt::print("{}: {} ({:.3f} bits per weight), {} of {} tensors without loss, in {}\n", output,
               format_bytes(static_cast<double>(r.file_bytes)), r.bits_per_weight, n_exact,
               r.tensors.size(), format_duration(r.seconds));
  }
};

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto command = std::make_shared<ExportCommand>();
  CLI::App* sub = app.add_subcommand("export", "A .lap file as GGUF, for llama.cpp and its kin");
  sub->add_option("model", command->model, "The .lap file")->required()->type_name("M.lap");
  sub->add_option("--to", command->to, "Target format: gguf")->required()->type_name("FORMAT");
  sub->add_option(
         "--type", command->type,
         "Type of every matrix; auto: the nearest to each tensor's code, exact where one is")
      ->type_name("TYPE")
      ->capture_default_str();
  sub->add_option("-o,--output", command->output, "The file to write")
      ->required()
      ->type_name("FILE");
  add_threads_option(*sub, command->n_threads);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary export e2b.lap --to gguf -o e2b.gguf\n"
      "  lapidary export e2b.lap --to gguf --type q4_k -o e2b-Q4_K.gguf");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
