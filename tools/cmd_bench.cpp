// lapidary bench: how fast a model runs here, and files of a true shape to measure with.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "convert/synthetic.h"
#include "formats/error.h"
#include "formats/file.h"
#include "quantize/random_weights.h"
#include "runtime/bench/bench.h"
#include "runtime/bench/stream_bench.h"
#include "runtime/kv_choice.h"
#include "tools/cli/command_options.h"
#include "tools/cli/progress.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const BenchResult& r) {
  return {{"test", to_string(r.test)},
          {"tokens_per_second", r.tokens_per_second},
          {"bytes_per_token", r.bytes_per_token},
          {"share_of_bandwidth", r.share_of_bandwidth},
          {"share_of_int8", r.share_of_int8},
          {"slowest", r.slowest},
          {"fastest", r.fastest},
          {"multiply_adds_per_token", r.multiply_adds_per_token},
          {"read_gbps", r.read_gbps},
          {"int8_tops", r.int8_tops},
          {"clean_repetitions", r.n_clean},
          {"disturbed_repetitions", r.n_disturbed},
          {"disturbed", r.disturbed}};
}

void print_json(const BenchReport& report) {
  Json json{{"cpu", report.cpu},
            {"isa", report.isa},
            {"threads", report.n_threads},
            {"read_gbps", report.read_gbps},
            {"int8_tops", report.int8_tops},
            {"results", Json::array()}};
  for (const BenchResult& r : report.results) json["results"].push_back(to_json(r));
  fmt::print("{}\n", json.dump());
}

void print_table(const BenchReport& report) {
  fmt::print("{}, {}, {} threads; memory reads {:.1f} GB/s, int8 peak {:.2f} TOPS\n\n", report.cpu,
             report.isa, report.n_threads, report.read_gbps, report.int8_tops);
  fmt::print("{:<14} {:>9} {:>19} {:>9} {:>13} {:>11}\n", "test", "tokens/s", "slowest .. fastest",
             "MB/token", "of bandwidth", "of int8");
  bool disturbed = false;
  for (const BenchResult& r : report.results) {
    fmt::print("{:<14} {:>9.2f} {:>19} {:>9.1f} {:>11.1f} % {:>9.1f} %{}\n", to_string(r.test),
               r.tokens_per_second, fmt::format("{:.2f} .. {:.2f}", r.slowest, r.fastest),
               r.bytes_per_token / 1e6, 100 * r.share_of_bandwidth, 100 * r.share_of_int8,
               r.disturbed ? fmt::format("  disturbed ({} of {} repetitions clean)", r.n_clean,
                                         r.n_clean + r.n_disturbed)
                           : "");
    disturbed = disturbed || r.disturbed;
  }
  if (disturbed)
    fmt::print("\nOther work on this machine disturbed some repetitions; close it and repeat.\n");
}

void print_json(const StreamOptions& options, const StreamReport& r) {
  const Json json{{"streams", options.n_streams},
                  {"prompt_tokens", options.prompt_tokens},
                  {"new_tokens", options.new_tokens},
                  {"tokens_per_second", r.tokens_per_second},
                  {"step_share", r.step_share},
                  {"seconds_to_first", {{"median", r.first_median}, {"p99", r.first_p99}}},
                  {"seconds_between", {{"median", r.gap_median}, {"p99", r.gap_p99}}},
                  {"cached_tokens", r.counters.cached_tokens},
                  {"drafted_tokens", r.counters.drafted_tokens},
                  {"accepted_tokens", r.counters.accepted_tokens},
                  {"steps", r.counters.steps}};
  fmt::print("{}\n", json.dump());
}

void print_table(const StreamOptions& options, const StreamReport& r) {
  fmt::print("{} streams of {} + {} tokens: {:.1f} new tokens/s in all, {:.1f} % of it in steps\n",
             options.n_streams, options.prompt_tokens, options.new_tokens, r.tokens_per_second,
             100 * r.step_share);
  fmt::print(
      "first token after {:.0f} ms (99 %: {:.0f}), then one every {:.0f} ms (99 %: {:.0f})\n",
      1e3 * r.first_median, 1e3 * r.first_p99, 1e3 * r.gap_median, 1e3 * r.gap_p99);
}

struct BenchCommand {
  std::string model, tests = "pp512,tg32", weights = "w4", output;
  int repetitions = 5, batch_tokens = EngineOptions().max_batch_tokens;
  StreamOptions streams{.n_streams = 0};
  SyntheticModel synthetic;
  ModelOptions model_options;
  OutputOptions out;

  int run() const {
    if (!synthetic.shape.empty() && !model.empty())
      fail(ErrorCode::kUsage, "--synthetic writes a model; measure {} without it", model);
    if (!synthetic.shape.empty()) return write_synthetic();
    if (model.empty())
      fail(ErrorCode::kUsage, "bench needs M.lap, or --synthetic SHAPE -o FILE to make one");
    if (!output.empty()) fail(ErrorCode::kUsage, "-o belongs to --synthetic; use --json > FILE");
    return measure();
  }

  int measure() const {
    const EngineScorerOptions how = model_options.scorer_options();
    BenchOptions options;
    options.tests = parse_bench_tests(tests);
    options.repetitions = repetitions;
    options.engine = how.engine;
    options.engine.max_batch_tokens = batch_tokens;
    options.engine.max_logits = 1;
    const std::shared_ptr<const Model> loaded = Model::load(model);
    options.kv = kv_for(how.kv, loaded->file().metadata());
    std::shared_ptr<const Adapter> adapter;
    if (!model_options.adapter.empty()) adapter = Adapter::load(model_options.adapter, *loaded);
    options.adapter = adapter.get();
    if (streams.n_streams > 0) return measure_streams(loaded, options);
    ProgressLine progress(out.quiet);
    const BenchReport report = run_bench(loaded, options, progress.events());
    out.json ? print_json(report) : print_table(report);
    return 0;
  }

  int measure_streams(std::shared_ptr<const Model> loaded, const BenchOptions& bench) const {
    StreamOptions options = streams;
    options.engine = bench.engine;
    options.engine.max_logits = std::max(EngineOptions().max_logits, options.n_streams);
    options.scheduler.kv = bench.kv;
    options.scheduler.prefix_bytes = uint64_t{1} << 30;
    options.sampling.top_k = kMostBest;  // what the models' own settings ask for
    ProgressLine progress(out.quiet);
    const StreamReport report = run_streams(std::move(loaded), options, progress.events());
    out.json ? print_json(options, report) : print_table(options, report);
    return 0;
  }

  int write_synthetic() const {
    QuantizeOptions options;
    const auto code = parse_code(weights);
    if (!code)
      fail(ErrorCode::kUsage,
           "--weights \"{}\": expected t6, t5, t4, t3, w8, w6, w5, w4, w3, w4x, w8x, bf16, f16 or "
           "f32",
           weights);
    options.weights = *code;
    options.finer_head = false;  // one code throughout, whose speed is asked for
    if (output.empty()) fail(ErrorCode::kUsage, "--synthetic needs -o FILE");
    const std::unique_ptr<ModelSource> source = synthetic_source(synthetic);
    ProgressLine progress(out.quiet);
    const QuantizeReport report =
        write_random(*source, output, kSyntheticDeviation, options, progress.events());
    if (out.json) {
      const Json json{{"bits_per_weight", report.bits_per_weight},
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
  CLI::App* sub = app.add_subcommand("bench", "Measure speed against what the machine can do");
  sub->add_option("model", command->model, "A .lap file")->type_name("M.lap");
  sub->add_option("--tests", command->tests,
                  "ppN: a prompt of N tokens; tgN: N tokens one by one; @dD: after D random tokens")
      ->type_name("LIST")
      ->capture_default_str();
  sub->add_option("--repetitions", command->repetitions,
                  "Undisturbed repetitions of each test; the median counts")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  sub->add_option("--batch-tokens", command->batch_tokens, "Prompt tokens computed at once")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  StreamOptions& streams = command->streams;
  sub->add_option("--streams", streams.n_streams, "Measure N answers at once instead of --tests")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  sub->add_option("--prompt-tokens", streams.prompt_tokens, "Of each stream")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  sub->add_option("--shared-tokens", streams.shared_tokens, "Of these, the same in all streams")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  sub->add_option("--new-tokens", streams.new_tokens, "Of each stream")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  sub->add_option("--draft", streams.scheduler.draft_tokens, "Tokens guessed ahead at most")
      ->type_name("N")
      ->check(CLI::Range(0, kRollbackTokens - 1))
      ->capture_default_str();
  add_model_options(*sub, command->model_options);
  sub->add_option("--synthetic", command->synthetic.shape,
                  "Write random weights of a true shape instead: e2b, e4b, 26b-a4b, 31b")
      ->type_name("SHAPE");
  sub->add_option("--weights", command->weights, "Code of a synthetic model's matrices")
      ->type_name("CODE")
      ->capture_default_str();
  sub->add_option("--layers", command->synthetic.n_layers,
                  "Only its first N layers, up to a whole attention period; 0: all")
      ->type_name("N")
      ->capture_default_str();
  sub->add_option("--vocab", command->synthetic.vocab_size, "Rows of its vocabulary")
      ->type_name("N")
      ->capture_default_str();
  sub->add_option("-o,--output", command->output, "The .lap file to write")->type_name("FILE");
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary bench model.lap\n"
      "  lapidary bench model.lap --tests pp512,tg32,tg32@d32768 --threads 8 --json\n"
      "  lapidary bench model.lap --streams 16 --new-tokens 128\n"
      "  lapidary bench --synthetic e2b --weights w4 -o e2b-w4.lap\n"
      "  lapidary bench --synthetic 26b-a4b --layers 6 -o cut.lap");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
