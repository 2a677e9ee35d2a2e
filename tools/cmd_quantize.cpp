// lapidary quantize: weights to 8 down to 3 bits; --dry-run prints what would come out first.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/provenance.h"
#include "quantize/kv_auto.h"
#include "quantize/lattice.h"
#include "quantize/quantize.h"
#include "quantize/scratch_model.h"
#include "runtime/verify/builtin_text.h"
#include "tools/cli/command_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/quantize_options.h"
#include "tools/cli/recipe.h"
#include "tools/cli/source.h"
#include "tools/commands.h"
#include "tools/quantize_gguf.h"
#include "tools/report/quantize_report.h"

namespace lapidary {
namespace {

nlohmann::ordered_json allocation_json(const Allocation& allocation) {
  nlohmann::ordered_json json;
  json["predicted_kld"] = allocation.predicted_kld;
  if (allocation.measured_kld) json["measured_kld"] = *allocation.measured_kld;
  json["tensors"] = nlohmann::ordered_json::array();
  for (const TensorCost& t : allocation.tensors)
    json["tensors"].push_back(
        {{"name", t.name}, {"code", code_name(t.code)}, {"bytes", t.bytes}, {"kld", t.kld}});
  json["curve"] = nlohmann::ordered_json::array();
  for (const CurvePoint& p : allocation.curve) json["curve"].push_back({p.bits_per_weight, p.kld});
  for (const auto& [code, p] : allocation.uniform)
    json["uniform"][std::string(code_name(code))] = {p.bits_per_weight, p.kld};
  return json;
}

std::string measured(const Allocation& allocation) {
  if (!allocation.measured_kld) return "";
  return fmt::format(", measured {:.5f} on other tokens", *allocation.measured_kld);
}

// What a tensor is predicted to cost, for the dry run.
std::string predicted(const std::optional<Allocation>& allocation, const std::string& tensor) {
  if (allocation)
    for (const TensorCost& t : allocation->tensors)
      if (t.name == tensor) return fmt::format("  KLD {:.6f}", t.kld);
  return "";
}

struct QuantizeCommand {
  std::string source, output;
  WeightOptions weights;
  BudgetText budget;
  CalibrateOptions calibrate;
  std::string report_file, report_text;
  bool dry_run = false;
  int n_threads = 0;
  std::string kv, kv_text;  // "auto", and the text it measures on
  double kv_budget = 0, kv_max_kld = 0;
  OutputOptions out;

  QuantizeOptions options(const CLI::App& sub) const {
    QuantizeOptions options = weights.resolve();
    options.calibration = calibrate.resolve();
    options.n_threads = n_threads;
    options.recipe = resolved_recipe(sub);
    return options;
  }

  int run(CLI::App& sub) {
    apply_recipe(sub);
    if (output.empty() && !dry_run)
      fail(ErrorCode::kUsage, "quantize needs -o FILE (or --dry-run to see sizes first)");
    if (!dry_run)
      refuse_to_replace(output, {source, kv_text, report_text, calibrate.text, budget.fisher});
    if (!budget.fisher.empty() && !budget.given())
      fail(ErrorCode::kUsage, "--fisher needs --target-size, --target-bpw or --max-kld");
    if (report_file.empty() ? !report_text.empty() : dry_run)
      fail(ErrorCode::kUsage, "--report-text needs --report, and --report a file to write");
    if (!report_file.empty()) refuse_to_replace(report_file, {source, output, report_text});
    if (!kv.empty() && kv != "auto")
      fail(ErrorCode::kUsage, "--kv \"{}\": expected auto; a fixed code is an option of run", kv);
    if (kv.empty() ? kv_budget > 0 || kv_max_kld > 0 || !kv_text.empty() : dry_run)
      fail(ErrorCode::kUsage,
           "--kv-budget, --kv-max-kld and --kv-text need --kv auto, and --kv auto "
           "a file to write");
    if (is_gguf_output(output)) {
      quantize_to_gguf({source, output, weights, budget, calibrate.resolve(), dry_run,
                        !kv.empty() || !report_file.empty(), n_threads, out});
      return 0;
    }
    QuantizeOptions resolved = options(sub);
    ProgressLine progress(out.quiet);
    const auto model = open_source(source);
    std::optional<Allocation> allocation;
    if (budget.given()) {
      allocation = share_out(*model, resolved, progress.events());
      resolved.keep.insert(resolved.keep.begin(), allocation->codes.begin(),
                           allocation->codes.end());
    }
    keep_lattices(*model, &resolved, progress.events());
    const QuantizeReport report =
        dry_run ? plan(*model, resolved) : quantize(*model, output, resolved, progress.events());
    for (const std::string& pattern : unmatched_patterns(resolved, report))
      fmt::print(stderr, "note: --keep {}: no tensor has such a name\n", pattern);
    if (!report_file.empty()) write_report(*model, report, allocation, progress.events());
    std::optional<KvAutoReport> cache;
    if (!kv.empty()) cache = choose_cache(progress.events());
    if (out.json)
      print_json(report, allocation, cache);
    else
      print_text(report, allocation, cache);
    return 0;
  }

  // Tensors that lie on a lattice are stored as what they are, where that costs no byte more.
  void keep_lattices(const ModelSource& model, QuantizeOptions* resolved,
                     const Events& events) const {
    if (weights.no_lattices) return;
    size_t n_kept = 0, n_larger = 0;
    std::string larger;
    for (const LatticeFinding& found : find_lattices(model, *resolved, events)) {
      if (found.stored()) {
        resolved->keep.insert(resolved->keep.begin(), {found.tensor, found.code});
        ++n_kept;
      } else if (n_larger++ == 0) {
        larger = fmt::format("{}={}", found.tensor, code_name(found.code));
      }
    }
    if (n_kept > 0)
      events.note(fmt::format("{} tensors lie on a lattice and are stored exactly", n_kept));
    if (n_larger > 0)
      events.note(
          fmt::format("{} tensors lie on a lattice but would be larger exactly; to keep one: "
                      "--keep '{}'",
                      n_larger, larger));
  }

  // Without an output, scratch files lie where temporary files do.
  Allocation share_out(const ModelSource& model, const QuantizeOptions& resolved,
                       const Events& events) const {
    BudgetOptions options = budget.resolve(resolved.target);
    if (resolved.calibration) options.text = resolved.calibration->text;
    options.scratch =
        !output.empty() ? output : (std::filesystem::temp_directory_path() / "lapidary").string();
    return allocate(model, source, resolved, options, events);
  }

  void write_report(const ModelSource& model, const QuantizeReport& report,
                    const std::optional<Allocation>& allocation, const Events& events) const {
    QuantizePage page;
    page.source_name = std::filesystem::path(source).filename().string();
    page.output_name = std::filesystem::path(output).filename().string();
    page.report = report;
    page.allocation = allocation;
    page.text_source = report_text.empty() ? "built-in text"
                                           : std::filesystem::path(report_text).filename().string();
    page.made_by = kToolVersion;
    for (const SourceTensor& t : model.tensors())
      page.source_bytes += static_cast<uint64_t>(t.elements()) * traits(t.code).bits / 8;
    EngineScorerOptions how;
    how.engine.n_threads = n_threads;
    const ExactModel exact(model, source, output, events);
    const auto base = make_engine_scorer(exact.path(), how),
               candidate = make_engine_scorer(output, how);
    page.text = compare_text(
        *base, *candidate,
        report_text.empty() ? std::string(builtin_text()) : read_text(report_text), {}, events);
    write_text_atomically(report_file, quantize_html(page));
  }

  KvAutoReport choose_cache(const Events& events) const {
    KvAutoOptions options;
    if (kv_budget > 0) options.bytes_per_token = kv_budget;
    if (kv_max_kld > 0) options.max_kld = kv_max_kld;
    options.text = kv_text.empty() ? std::string(builtin_text()) : read_text(kv_text);
    options.n_threads = n_threads;
    const KvAutoReport report = choose_kv(output, options, events);
    record_kv(output, report.chosen);
    return report;
  }

  static void print_json(const QuantizeReport& report, const std::optional<Allocation>& allocation,
                         const std::optional<KvAutoReport>& cache) {
    nlohmann::ordered_json json;
    json["bits_per_weight"] = report.bits_per_weight;
    json["bytes"] = report.bytes;
    json["file_bytes"] = report.file_bytes;
    json["tensors"] = nlohmann::ordered_json::array();
    for (const TensorReport& t : report.tensors) {
      json["tensors"].push_back({{"name", t.name},
                                 {"code", code_name(t.code)},
                                 {"bits", t.bits},
                                 {"relative_error", t.relative_error}});
      if (t.output_error) json["tensors"].back()["output_error"] = *t.output_error;
    }
    if (allocation) json["allocation"] = allocation_json(*allocation);
    if (cache) {
      json["kv"] = {{"choice", describe(cache->chosen)},
                    {"kld", cache->kld},
                    {"bytes_per_token", cache->bytes_per_token},
                    {"trials", nlohmann::ordered_json::array()}};
      for (const KvTrial& t : cache->trials)
        json["kv"]["trials"].push_back({{"layer", t.layer},
                                        {"code", kv_name(t.code)},
                                        {"kld", t.kld},
                                        {"bytes_per_token", t.bytes_per_token}});
    }
    json["seconds"] = report.seconds;
    json["peak_rss_bytes"] = peak_rss_bytes();
    fmt::print("{}\n", json.dump());
  }

  void print_text(const QuantizeReport& report, const std::optional<Allocation>& allocation,
                  const std::optional<KvAutoReport>& cache) const {
    if (dry_run) {
      for (const TensorReport& t : report.tensors)
        fmt::print("{:60} {:5} {:6.3f} bits {:>10}{}\n", t.name, code_name(t.code), t.bits,
                   format_bytes(static_cast<double>(t.bytes)), predicted(allocation, t.name));
      if (allocation)
        fmt::print("predicted KLD {:.5f}{}\n", allocation->predicted_kld, measured(*allocation));
      for (const MemoryPart& part : report.memory.parts)
        fmt::print("{:>10}  {}\n", format_bytes(static_cast<double>(part.bytes)), part.what);
      if (report.memory.bytes > 0)
        fmt::print("{:>10}  of memory to calibrate; --memory allows {}\n",
                   format_bytes(static_cast<double>(report.memory.bytes)), calibrate.memory);
      fmt::print("would write {} of tensors, {:.3f} bits per weight; nothing was written\n",
                 format_bytes(static_cast<double>(report.bytes)), report.bits_per_weight);
      return;
    }
    fmt::print("{}: {} ({:.3f} bits per weight) in {} (peak memory {})\n", output,
               format_bytes(static_cast<double>(report.file_bytes)), report.bits_per_weight,
               format_duration(report.seconds),
               format_bytes(static_cast<double>(peak_rss_bytes())));
    if (allocation)
      fmt::print("codes by budget: predicted KLD {:.5f}{}\n", allocation->predicted_kld,
                 measured(*allocation));
    if (!cache) return;
    for (const KvTrial& t : cache->trials)
      fmt::print("layer {:3} {:5} KLD {:.6f}  {:6.0f} bytes per token\n", t.layer, kv_name(t.code),
                 t.kld, t.bytes_per_token);
    fmt::print("KV cache: {}; together KLD {:.6f}, {:.0f} bytes per token\n",
               describe(cache->chosen), cache->kld, cache->bytes_per_token);
  }
};

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* sub = app.add_subcommand(
      "quantize", "Pack weights to 8 down to 3 bits, to a size, or to a limit of loss");
  sub->add_option("source", command->source, "A .lap file, a Hugging Face folder or a GGUF file")
      ->required()
      ->type_name("SRC");
  sub->add_option(
         "-o,--output", command->output,
         "The .lap file to write, or NAME.gguf: rounded to GGUF's own types, which --weights "
         "and --keep then name (q4_k, iq4_xs, q6_k, ...)")
      ->type_name("FILE");
  add_weight_options(*sub, command->weights);
  add_budget_options(*sub, command->budget);
  add_calibrate_options(*sub, command->calibrate);
  sub->add_flag("--dry-run", command->dry_run, "Print size and bits per tensor, write nothing");
  sub->add_option("--kv", command->kv,
                  "auto: choose the KV cache by measuring each layer, and write it into the file")
      ->type_name("auto");
  sub->add_option("--kv-budget", command->kv_budget, "KV cache: bytes per token at most")
      ->type_name("BYTES")
      ->check(CLI::PositiveNumber);
  sub->add_option("--kv-max-kld", command->kv_max_kld,
                  "KV cache: loss at most, nats per token without exact ends (0.002)")
      ->type_name("NATS")
      ->check(CLI::PositiveNumber);
  sub->add_option("--kv-text", command->kv_text, "Text to measure on (default: a built-in text)")
      ->type_name("FILE");
  sub->add_option("--report", command->report_file,
                  "Write a page: sizes, loss on held-out text, who got how many bits")
      ->type_name("FILE");
  sub->add_option("--report-text", command->report_text,
                  "Text for the report (default: a built-in text)")
      ->type_name("FILE");
  add_threads_option(*sub, command->n_threads);
  add_recipe_option(*sub);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary quantize model.lap -o model-w4.lap --weights w4\n"
      "  lapidary quantize gemma-4-E2B-it -o e2b-w4.lap --dry-run\n"
      "  lapidary quantize model.lap -o model-t4.lap --weights t4 --calibrate builtin\n"
      "  lapidary quantize model.lap -o for-vllm.lap --for vllm --calibrate builtin\n"
      "  lapidary quantize model.lap -o model.gguf --target-bpw 4.9 --calibrate builtin\n"
      "  lapidary quantize model.lap -o model-16g.lap --target-size 16GiB --calibrate mine.txt\n"
      "  lapidary quantize model.lap -o q.lap --weights w3 --keep 'model.embed_tokens.weight=w6'");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
