// lapidary export: a packed model for other people's runtimes.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "export/gguf_export.h"
#include "export/hf_export.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

struct ExportCommand {
  std::string model, output, to, type = "auto";
  bool flat_config = false, overwrite = false;
  double shard_gb = 5;
  int n_threads = 0;
  OutputOptions out;

  int run() const {
    if (to != "gguf" && to != "hf") fail(ErrorCode::kUsage, "--to \"{}\": expected gguf or hf", to);
    refuse_to_replace(output, {model});
    const auto reader = LapReader::open(model);
    ProgressLine progress(out.quiet);
    if (to == "hf")
      report(export_hf(*reader, output, hf_options(), progress.events()));
    else
      report(export_gguf(*reader, output, gguf_options(), progress.events()));
    return 0;
  }

  HfExportOptions hf_options() const {
    HfExportOptions options;
    options.dialect = flat_config ? HfDialect::kFlat : HfDialect::kTransformers5;
    options.shard_bytes = static_cast<uint64_t>(shard_gb * 1e9);
    options.overwrite = overwrite;
    options.n_threads = n_threads;
    return options;
  }

  GgufExportOptions gguf_options() const {
    GgufExportOptions options;
    options.n_threads = n_threads;
    if (type == "auto") return options;
    options.type = parse_ggml_type(type);
    if (!options.type)
      fail(ErrorCode::kUsage,
           "--type \"{}\": expected auto, f32, f16, bf16, q8_0, q6_k, q5_k, q4_k, q4_0, iq4_nl "
           "or q3_k",
           type);
    return options;
  }

  void report(const GgufExportReport& r) const {
    Json tensors = Json::array();
    for (const GgufExportReport::Tensor& t : r.tensors)
      tensors.push_back({{"name", t.name},
                         {"code", code_name(t.code)},
                         {"type", traits(t.type).name},
                         {"exact", t.exact}});
    print(Json{{"file_bytes", r.file_bytes},
               {"bits_per_weight", r.bits_per_weight},
               {"tensors", std::move(tensors)}},
          fmt::format("{} ({:.3f} bits per weight)",
                      format_bytes(static_cast<double>(r.file_bytes)), r.bits_per_weight),
          r.seconds);
  }

  void report(const HfExportReport& r) const {
    Json tensors = Json::array();
    for (const HfExportReport::Tensor& t : r.tensors)
      tensors.push_back({{"name", t.name}, {"code", code_name(t.code)}, {"exact", t.exact}});
    print(Json{{"bytes", r.bytes}, {"shards", r.n_shards}, {"tensors", std::move(tensors)}},
          fmt::format("{} in {} shard{}", format_bytes(static_cast<double>(r.bytes)), r.n_shards,
                      r.n_shards == 1 ? "" : "s"),
          r.seconds);
  }

  void print(Json json, const std::string& size, double seconds) const {
    if (out.json) {
      json["seconds"] = seconds;
      json["peak_rss_bytes"] = peak_rss_bytes();
      fmt::print("{}\n", json.dump());
      return;
    }
    size_t n_exact = 0;
    for (const Json& tensor : json["tensors"]) n_exact += tensor["exact"].get<bool>() ? 1 : 0;
    fmt::print("{}: {}, {} of {} tensors without loss, in {}\n", output, size, n_exact,
               json["tensors"].size(), format_duration(seconds));
  }
};

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto command = std::make_shared<ExportCommand>();
  CLI::App* sub =
      app.add_subcommand("export", "For other runtimes: a GGUF file or a Hugging Face folder");
  sub->add_option("model", command->model, "The .lap file")->required()->type_name("M.lap");
  sub->add_option("--to", command->to, "gguf (llama.cpp and its kin) or hf (transformers)")
      ->required()
      ->type_name("FORMAT");
  sub->add_option(
         "--type", command->type,
         "GGUF: type of every matrix; auto: the nearest to each tensor's code, exact where one is")
      ->type_name("TYPE")
      ->capture_default_str();
  sub->add_flag("--flat-config", command->flat_config,
                "hf: config.json in the spelling from before transformers 5");
  sub->add_option("--shard-gb", command->shard_gb, "hf: largest safetensors file, in GB")
      ->check(CLI::Range(0.001, 1e6))
      ->type_name("GB")
      ->capture_default_str();
  sub->add_flag("--overwrite", command->overwrite, "hf: replace an existing folder");
  sub->add_option("-o,--output", command->output, "The file or folder to write")
      ->required()
      ->type_name("PATH");
  add_threads_option(*sub, command->n_threads);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary export e2b.lap --to gguf -o e2b.gguf\n"
      "  lapidary export e2b.lap --to gguf --type q4_k -o e2b-Q4_K.gguf\n"
      "  lapidary export tuned.lap --to hf -o tuned-hf");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
