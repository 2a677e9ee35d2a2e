// lapidary finetune: LoRA on a float base, QLoRA on a packed one, domain data mixed with general
// data.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "finetune/finetune.h"
#include "finetune/preview.h"
#include "formats/error.h"
#include "formats/file.h"
#include "quantize/merge_rounding.h"
#include "quantize/quantize.h"
#include "tools/cli/command_options.h"
#include "tools/cli/fisher_run.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/memory_table.h"
#include "tools/cli/progress.h"
#include "tools/cli/quantize_options.h"
#include "tools/cli/recipe.h"
#include "tools/cli/source.h"
#include "tools/commands.h"
#include "tools/preview_page.h"
#include "tools/report/finetune_report.h"

namespace lapidary {
namespace {

// What merge --weights CODE does to the master, for training that looks ahead to it.
void set_merge_aware(FinetuneOptions& options, const std::string& code_name) {
  const std::optional<Code> code = parse_code(code_name);
  if (!code || traits(*code).is_float)
    fail(ErrorCode::kUsage,
         "--merge-aware \"{}\": expected t6, t5, t4, t3, w8, w6, w5, w4, w3, w4x or w8x",
         code_name);
  options.merge_aware.code = code_name;
  QuantizeOptions quantize_options;
  quantize_options.weights = *code;
  quantize_options.n_threads = options.n_threads;
  options.merge_aware.pack = [model = options.model, quantize_options](const std::string& path,
                                                                       const Events& events) {
    quantize(*LapReader::open(model), path, quantize_options, events);
  };
  const auto rounding = std::make_shared<const MergeRounding>(LapReader::open(options.model));
  options.merge_aware.round = [rounding](const auto&... arguments) {
    rounding->round_panel(arguments...);
  };
}

struct FinetuneCommand {
  FinetuneOptions options;
  std::string merge_aware, html, kept_outputs = "256MiB";
  int64_t n_preview = 0;
  OutputOptions out;
  bool dry_run = false;
  FisherRun fisher;

  int run(CLI::App& sub) {
    apply_recipe(sub);
    options.kept_bytes = kept_outputs == "0" ? 0 : static_cast<int64_t>(parse_size(kept_outputs));
    if (dry_run) {
      print_memory_plan(options, out.json);
      return 0;
    }
    if (!fisher.output.empty())
      return write_gradient_statistics(fisher, options.model, options.seed, options.n_threads, out);
    if (options.data.empty()) fail(ErrorCode::kUsage, "finetune needs --data FILE.jsonl");
    if (!html.empty()) check_page();
    if (n_preview > 0) return show_preview();
    if (options.output.empty()) fail(ErrorCode::kUsage, "finetune needs -o DIR");
    options.recipe = resolved_recipe(sub);
    if (!merge_aware.empty()) set_merge_aware(options, merge_aware);
    ProgressLine progress(out.quiet);
    const FinetuneReport report = finetune(options, progress.events());
    if (!report.writes) return 0;
    if (!html.empty()) write_page(report);
    if (out.json) {
      const nlohmann::ordered_json json{{"steps", report.steps},
                                        {"first_loss", report.first_loss},
                                        {"final_loss", report.final_loss},
                                        {"trained_parameters", report.trained_parameters},
                                        {"tokens", report.tokens},
                                        {"general_tokens", report.general_tokens},
                                        {"kept_step", report.kept_step},
                                        {"stopped_early", report.stopped_early},
                                        {"peak_rss_bytes", peak_rss_bytes()},
                                        {"tokens_per_second", report.tokens_per_second}};
      fmt::print("{}\n", json.dump());
      return 0;
    }
    if (report.stopped_early)
      fmt::print("stopped early: the gate failed twice; the adapter of step {} is kept\n",
                 report.kept_step);
    const double share = report.tokens ? 100.0 * static_cast<double>(report.general_tokens) /
                                             static_cast<double>(report.tokens)
                                       : 0.0;
    fmt::print("{}: {} steps, loss {:.4f} -> {:.4f}, {} trained parameters\n", options.output,
               report.steps, report.first_loss, report.final_loss, report.trained_parameters);
    fmt::print("{} tokens ({:.2f} % general) at {:.0f} tokens/s, peak memory {}\n", report.tokens,
               share, report.tokens_per_second,
               format_bytes(static_cast<double>(peak_rss_bytes())));
    return 0;
  }

  // Before hours of training, not after.
  void check_page() const {
    std::vector<std::string> inputs{options.model,      options.data,
                                    options.eval_data,  options.eval_general,
                                    options.gate_tasks, options.replay_prompts};
    for (const std::string& general : options.general)  // FILE or FILE=WEIGHT
      for (const size_t end : {general.size(), general.rfind('=')})
        inputs.push_back(general.substr(0, end));
    refuse_to_replace(html, inputs);
    const std::string folder = std::filesystem::path(html).parent_path().string();
    if (!folder.empty() && folder != options.output && !path_exists(folder))
      fail(ErrorCode::kNotFound, "--html {}: there is no folder {}", html, folder);
  }

  int show_preview() const {
    const std::vector<PreviewExample> examples = preview(options, n_preview);
    if (html.empty())
      fmt::print("{}", preview_text(examples, isatty(STDOUT_FILENO) != 0));
    else
      write_text_atomically(html, preview_html(examples));
    return 0;
  }

  void write_page(const FinetuneReport& report) const {
    FinetunePage page;
    page.output_name = options.output;
    page.log = read_text(options.output + "/log.jsonl");
    page.kept_step = report.kept_step;
    page.stopped_early = report.stopped_early;
    page.gate_nats = options.gate_nats;
    page.gate_points = options.gate_points;
    page.facts = {{"tokens", fmt::format("{}", report.tokens)},
                  {"of them general", fmt::format("{}", report.general_tokens)},
                  {"tokens per second", fmt::format("{:.0f}", report.tokens_per_second)},
                  {"peak memory", format_bytes(static_cast<double>(peak_rss_bytes()))},
                  {"trained parameters", fmt::format("{}", report.trained_parameters)}};
    write_text_atomically(html, finetune_html(page));
  }
};

void add_training_options(CLI::App& sub, FinetuneOptions& o) {
  sub.add_option("--rank", o.rank, "LoRA rank")->check(CLI::Range(1, 4096))->capture_default_str();
  sub.add_option("--alpha", o.alpha, "LoRA alpha; the update is scaled by alpha / rank")
      ->capture_default_str();
  sub.add_flag("--rslora", o.rslora, "Scale by alpha / sqrt(rank)");
  sub.add_flag("--dora", o.dora, "Train magnitudes beside directions (DoRA)");
  sub.add_option("--rank-for", o.rank_for,
                 "Other ranks for some targets, at the same scale: experts=2, layers.3=32")
      ->delimiter(',')
      ->type_name("NAME=R,...");
  sub.add_flag("--adam-8bit", o.adam_8bit, "Optimizer state in eight bits: a fourth of the memory");
  sub.add_option(
         "--targets", o.targets,
         "Adapted modules; default: all seven projections. experts: the stacks of a mixture; "
         "all-linear: both")
      ->delimiter(',')
      ->type_name("NAME,...");
  sub.add_option("--lr", o.learning_rate, "Learning rate")->capture_default_str();
  sub.add_option("--lora-plus", o.lora_plus_ratio, "Learning rate of B over that of A (LoRA+)")
      ->capture_default_str();
  sub.add_option("--weight-decay", o.weight_decay, "AdamW weight decay")->capture_default_str();
  sub.add_option("--clip", o.clip_norm, "Gradient norm limit; 0: off")->capture_default_str();
  sub.add_option("--schedule", o.schedule, "constant, linear or cosine")->capture_default_str();
  sub.add_option("--warmup", o.warmup_steps, "Warm-up steps")->capture_default_str();
  sub.add_option("--epochs", o.epochs, "Passes over the domain data")->capture_default_str();
  sub.add_option("--steps", o.steps, "Steps; wins over --epochs when above 0")
      ->capture_default_str();
  sub.add_option("--context", o.context, "Tokens of the longest example")->capture_default_str();
  sub.add_option("--batch-tokens", o.batch_tokens, "Tokens per step")->capture_default_str();
  sub.add_flag("--train-on-all", o.train_on_all, "Loss on every token, not only the model's turns");
  sub.add_flag("--checkpoint-activations", o.checkpoint_activations,
               "Recompute layers in the backward pass: less memory, more time");

  sub.add_option("--keep-checkpoints", o.checkpoint_keep,
                 "Checkpoints kept; older ones are removed")
      ->capture_default_str();
  sub.add_option("--precision", o.precision,
                 "Operands of products: bf16, f32, or auto, the faster one here; sums are float32")
      ->check(CLI::IsMember({"auto", "bf16", "f32"}))
      ->capture_default_str();
  sub.add_option("--checkpoint-steps", o.checkpoint_steps,
                 "Steps between checkpoints to resume from; 0: only when interrupted")
      ->capture_default_str();
  sub.add_option("--seed", o.seed, "Seed of shuffling and initial adapters")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 62))
      ->capture_default_str();
}

void add_general_options(CLI::App& sub, FinetuneOptions& o) {
  sub.add_option("--general", o.general,
                 "General examples that keep what the model can do; several share by weight")
      ->type_name("FILE.jsonl[=WEIGHT]");
  sub.add_option("--general-share", o.general_share, "Share of general data, exact by tokens")
      ->check(CLI::Range(0.0, 0.95))
      ->capture_default_str();
  sub.add_option("--replay", o.replay,
                 "General conversations the base model makes itself before training")
      ->capture_default_str();
  sub.add_option("--replay-prompts", o.replay_prompts,
                 "Whose user turns it answers; default: it makes them up as well")
      ->type_name("FILE.jsonl");
  sub.add_option("--replay-weight", o.replay_weight, "Weight of them among the general sources")
      ->capture_default_str();
  sub.add_option("--kl-to-base", o.kl_to_base,
                 "Weight of the KL divergence from the base on general tokens; 0: off")
      ->capture_default_str();
  sub.add_option("--kl-prompts", o.kl_prompts, "The same on the prompts of domain examples")
      ->capture_default_str();
  sub.add_flag("--keep-only", o.keep_only,
               "General answers are not learned, only held to the base by --kl-to-base");
}

void add_gate_options(CLI::App& sub, FinetuneOptions& o) {
  sub.add_option("--eval-data", o.eval_data,
                 "Held-out domain examples: the adapter with their lowest loss is kept")
      ->type_name("FILE.jsonl");
  sub.add_option("--eval-general", o.eval_general, "Held-out general examples for the gate")
      ->type_name("FILE.jsonl");
  sub.add_option("--hold-out", o.hold_out,
                 "Without --eval-general, every so many-th general example is held out; 0: none")
      ->capture_default_str();
  sub.add_option("--gate-tasks", o.gate_tasks, "Tasks the tuned model must still answer")
      ->type_name("FILE.jsonl");
  sub.add_option("--eval-steps", o.eval_steps, "Steps between evaluations; 0: a tenth of the run")
      ->capture_default_str();
  sub.add_option("--gate-nats", o.gate_nats, "Tolerated rise of the general loss, nats per token")
      ->capture_default_str();
  sub.add_option("--gate-points", o.gate_points, "Tolerated fall of right answers, as a fraction")
      ->capture_default_str();
}

}  // namespace

void add_finetune(CLI::App& app, Action& action) {
  auto command = std::make_shared<FinetuneCommand>();
  FinetuneOptions& o = command->options;
  CLI::App* sub =
      app.add_subcommand("finetune", "LoRA and QLoRA on domain data mixed with general data");
  sub->add_option("model", o.model, "A .lap file, float or packed")->required()->type_name("M.lap");
  sub->add_option("--data", o.data,
                  "Domain examples (messages, ShareGPT, Alpaca, prompt/completion, text)")
      ->type_name("FILE.jsonl");
  sub->add_option("-o,--output", o.output, "Folder for the PEFT adapter")->type_name("DIR");
  sub->add_flag("--overwrite", o.overwrite, "Replace an existing output folder");
  sub->add_flag("--resume", o.resume, "Continue an interrupted run in the output folder");
  sub->add_option("--preview", command->n_preview,
                  "Show so many examples of each file as they are trained on, and stop")
      ->type_name("N");
  sub->add_option("--html", command->html,
                  "Write a page with curves (with --preview: the examples)")
      ->type_name("FILE");
  add_fisher_options(*sub, command->fisher);
  add_general_options(*sub, o);
  add_gate_options(*sub, o);
  sub->add_flag(
      "--dry-run", command->dry_run,
      "Print the memory plan and stop; M.lap may be e2b, e4b, 26b-a4b or 31b (in w4) then");
  add_training_options(*sub, o);
  sub->add_option(
         "--kept-outputs", command->kept_outputs,
         "With --checkpoint-activations: memory for results that layers then need not make "
         "again; 0: none")
      ->type_name("SIZE")
      ->capture_default_str();
  sub->add_option("--too-long", o.too_long,
                  "Conversations beyond the context: cut, drop or refuse; texts are divided")
      ->capture_default_str();
  sub->add_option("--merge-aware", command->merge_aware,
                  "Train the last steps against the weights that merge --weights CODE will store")
      ->type_name("CODE");
  sub->add_option("--merge-aware-steps", o.merge_aware.steps, "How many of the last steps")
      ->capture_default_str();
  add_threads_option(*sub, o.n_threads);
  add_recipe_option(*sub);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary finetune model-w4.lap --data roman.jsonl --general chat.jsonl -o "
      "tuned\n"
      "  lapidary finetune model.lap --recipe recipes/lora.toml --data d.jsonl -o tuned --steps "
      "200\n"
      "  lapidary finetune model-w4.lap --data d.jsonl --general chat.jsonl=0.7 --general "
      "code.jsonl=0.3 --kl-to-base 0.2 --eval-data held.jsonl -o tuned");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
