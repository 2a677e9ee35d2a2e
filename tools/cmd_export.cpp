// lapidary export: a packed model for other people's runtimes.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "export/adapter_export.h"
#include "export/compressed_tensors.h"
#include "export/gguf_export.h"
#include "export/hf_export.h"
#include "export/mlx_export.h"
#include "formats/file.h"
#include "formats/peft.h"
#include "quantize/kv_ranges.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

struct ExportCommand {
  std::string model, output, to, type = "auto", base, verify_report, kv, kv_text;
  bool flat_config = false, overwrite = false;
  int group = -1;
  double shard_gb = 5;
  int n_threads = 0;
  OutputOptions out;

  int run() const {
    refuse_to_replace(output, {model, base, verify_report, kv_text});
    if (!kv.empty() && (kv != "fp8" || to != "compressed-tensors"))
      fail(ErrorCode::kUsage, "--kv takes fp8, for --to compressed-tensors");
    if (kv.empty() && !kv_text.empty()) fail(ErrorCode::kUsage, "--kv-text needs --kv fp8");
    if (path_exists(model + "/adapter_config.json")) return run_adapter();
    if (!base.empty()) fail(ErrorCode::kUsage, "--base is for adapters; {} is a model", model);
    const auto reader = LapReader::open(model);
    if (reader->metadata().config.is_assistant())
      fail(ErrorCode::kUsage, "{}: an assistant; only whole models and adapters are exported",
           model);
    ProgressLine progress(out.quiet);
    const Events events = progress.events();
    if (to == "hf")
      report(export_hf(*reader, output, hf_options(), events));
    else if (to == "compressed-tensors")
      report(
          export_compressed_tensors(*reader, output, compressed_tensors_options(events), events));
    else if (to == "mlx")
      report(export_mlx(*reader, output, mlx_options(), events));
    else
      report(export_gguf(*reader, output, gguf_options(), events));
    return 0;
  }

  int run_adapter() const {
    if (to != "gguf" && to != "mlx")
      fail(ErrorCode::kUsage, "{} is an adapter: --to gguf or mlx (it is a PEFT folder already)",
           model);
    if (base.empty())
      fail(ErrorCode::kUsage, "{} is an adapter: name the model it belongs to with --base M.lap",
           model);
    const PeftAdapter adapter = read_peft(model);
    const auto reader = LapReader::open(base);
    const AdapterReport r = to == "gguf" ? export_adapter_gguf(adapter, *reader, output)
                                         : export_adapter_mlx(adapter, *reader, output, overwrite);
    if (out.json)
      fmt::print("{}\n", Json{{"modules", r.n_modules}, {"bytes", r.bytes}}.dump());
    else
      fmt::print("{}: {} modules, {}\n", output, r.n_modules,
                 format_bytes(static_cast<double>(r.bytes)));
    return 0;
  }

  ModelCard card() const {
    ModelCard card;
    if (!verify_report.empty()) card.verify_report = read_text(verify_report, uint64_t{64} << 20);
    return card;
  }

  FolderOptions folder_options() const {
    return {static_cast<uint64_t>(shard_gb * 1e9), overwrite, n_threads};
  }

  HfExportOptions hf_options() const {
    if (type != "auto" || group >= 0)
      fail(ErrorCode::kUsage, "--to hf writes floats; --type and --group are for other formats");
    HfExportOptions options;
    options.dialect = flat_config ? HfDialect::kFlat : HfDialect::kTransformers5;
    options.folder = folder_options();
    options.card = card();
    return options;
  }

  // int4 or int8; nothing for auto.
  std::optional<int> integer_bits() const {
    if (type == "auto") return std::nullopt;
    if (type != "int4" && type != "int8")
      fail(ErrorCode::kUsage, "--type \"{}\": expected auto, int4, int8, or bf16 with --to mlx",
           type);
    return type == "int4" ? 4 : 8;
  }

  CompressedTensorsOptions compressed_tensors_options(const Events& events) const {
    CompressedTensorsOptions options;
    options.integers.bits = integer_bits();
    if (group >= 0) options.integers.group = group;
    options.folder = folder_options();
    options.card = card();
    if (kv.empty()) return options;
    KvRangeOptions how;
    if (!kv_text.empty()) how.text = read_text(kv_text);
    how.n_threads = n_threads;
    options.fp8_cache = measure_kv_ranges(model, how, events);
    return options;
  }

  MlxOptions mlx_options() const {
    MlxOptions options;
    if (type == "bf16")
      options.bits = 0;
    else
      options.bits = integer_bits();
    if (group == 0) fail(ErrorCode::kUsage, "--group 0: MLX has groups of 32, 64 or 128");
    if (group > 0) options.group = group;
    options.folder = folder_options();
    options.card = card();
    return options;
  }

  GgufExportOptions gguf_options() const {
    GgufExportOptions options;
    options.n_threads = n_threads;
    options.card = card();
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

  void report(const FolderReport& r) const {
    Json tensors = Json::array();
    for (const FolderReport::Tensor& t : r.tensors)
      tensors.push_back(
          {{"name", t.name}, {"code", code_name(t.code)}, {"type", t.type}, {"exact", t.exact}});
    print(Json{{"bytes", r.bytes},
               {"shards", r.n_shards},
               {"tensors", std::move(tensors)},
               {"notes", r.notes}},
          fmt::format("{} in {} shard{}", format_bytes(static_cast<double>(r.bytes)), r.n_shards,
                      r.n_shards == 1 ? "" : "s"),
          r.seconds);
    if (!out.json)
      for (const std::string& note : r.notes) fmt::print("{}\n", note);
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
      app.add_subcommand("export", "For other runtimes: llama.cpp, transformers, vLLM, MLX");
  sub->add_option("model", command->model, "The .lap file, or a PEFT adapter's folder")
      ->required()
      ->type_name("M.lap|DIR");
  sub->add_option("--to", command->to,
                  "gguf (llama.cpp and its kin), hf (transformers), compressed-tensors (vLLM), mlx")
      ->required()
      ->check(CLI::IsMember({"gguf", "hf", "compressed-tensors", "mlx"}))
      ->type_name("FORMAT");
  sub->add_option("--type", command->type,
                  "Of every matrix; auto: the nearest to each tensor's code, exact where one is. "
                  "gguf: q8_0, q4_k, ...; compressed-tensors and mlx: int4, int8; mlx: bf16")
      ->type_name("TYPE")
      ->capture_default_str();
  sub->add_option("--group", command->group,
                  "compressed-tensors and mlx: inputs under one scale; 0: the whole row. Default: "
                  "32 where integers are taken over; else compressed-tensors 32 at 4 bits and 0 at "
                  "8, mlx 64")
      ->check(CLI::IsMember({0, 32, 64, 128}))
      ->type_name("N");
  sub->add_option("--kv", command->kv,
                  "compressed-tensors: fp8 gives vLLM an FP8 cache, its scales measured on text")
      ->type_name("fp8");
  sub->add_option("--kv-text", command->kv_text,
                  "Text to measure them on (default: the built-in calibration text)")
      ->type_name("FILE");
  sub->add_flag("--flat-config", command->flat_config,
                "hf: config.json in the spelling from before transformers 5");
  sub->add_option("--shard-gb", command->shard_gb, "Folders: largest safetensors file, in GB")
      ->check(CLI::Range(0.001, 1e6))
      ->type_name("GB")
      ->capture_default_str();
  sub->add_option("--base", command->base, "Adapters: the model they belong to")
      ->type_name("M.lap");
  sub->add_option("--report", command->verify_report,
                  "Output of verify --json, whose verdict goes into the README")
      ->type_name("FILE");
  sub->add_flag("--overwrite", command->overwrite, "Replace an existing folder");
  sub->add_option("-o,--output", command->output, "The file or folder to write")
      ->required()
      ->type_name("PATH");
  add_threads_option(*sub, command->n_threads);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary export e2b.lap --to gguf -o e2b.gguf\n"
      "  lapidary export e2b.lap --to gguf --type q4_k -o e2b-Q4_K.gguf\n"
      "  lapidary export tuned.lap --to hf -o tuned-hf\n"
      "  lapidary export e2b.lap --to compressed-tensors --type int4 -o e2b-w4a16\n"
      "  lapidary export e2b-w4x.lap --to compressed-tensors --kv fp8 -o e2b-w4a16-kv8\n"
      "  lapidary export e2b.lap --to mlx --type int4 -o e2b-mlx\n"
      "  lapidary export adapter --to gguf --base e2b.lap -o adapter.gguf");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
