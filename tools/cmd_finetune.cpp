// lapidary finetune: LoRA on a float base, QLoRA on a packed one, domain data mixed with general
// data.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "finetune/finetune.h"
#include "formats/error.h"
#include "tools/cli/command_options.h"
#include "tools/cli/progress.h"
#include "tools/cli/recipe.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct FinetuneCommand {
  FinetuneOptions options;
  OutputOptions out;

  int run(CLI::App& sub) {
    apply_recipe(sub);
    if (options.data.empty()) fail(ErrorCode::kUsage, "finetune needs --data FILE.jsonl");
    if (options.output.empty()) fail(ErrorCode::kUsage, "finetune needs -o DIR");
    options.recipe = resolved_recipe(sub);
    ProgressLine progress(out.quiet);
    const FinetuneReport report = finetune(options, progress.events());
    if (out.json) {
      const nlohmann::ordered_json json{{"steps", report.steps},
                                        {"first_loss", report.first_loss},
                                        {"final_loss", report.final_loss},
                                        {"trained_parameters", report.trained_parameters},
                                        {"tokens", report.tokens},
                                        {"general_tokens", report.general_tokens},
                                        {"peak_rss_bytes", peak_rss_bytes()},
                                        {"tokens_per_second", report.tokens_per_second}};
      fmt::print("{}\n", json.dump());
      return 0;
    }
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
};

void add_training_options(CLI::App& sub, FinetuneOptions& o) {
  sub.add_option("--rank", o.rank, "LoRA rank")->check(CLI::Range(1, 4096))->capture_default_str();
  sub.add_option("--alpha", o.alpha, "LoRA alpha; the update is scaled by alpha / rank")
      ->capture_default_str();
  sub.add_flag("--rslora", o.rslora, "Scale by alpha / sqrt(rank)");
  sub.add_flag("--dora", o.dora, "Train magnitudes beside directions (DoRA)");
  sub.add_option("--targets", o.targets, "Adapted modules; default: all seven projections")
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
  sub.add_option("--checkpoint-steps", o.checkpoint_steps,
                 "Steps between checkpoints to resume from; 0: only when interrupted")
      ->capture_default_str();
  sub.add_option("--seed", o.seed, "Seed of shuffling and initial adapters")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 62))
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
  sub->add_option("--general", o.general, "General examples that keep what the model can do")
      ->type_name("FILE.jsonl");
  sub->add_option("--general-share", o.general_share, "Share of general data, exact by tokens")
      ->check(CLI::Range(0.0, 0.95))
      ->capture_default_str();
  sub->add_option("-o,--output", o.output, "Folder for the PEFT adapter")->type_name("DIR");
  sub->add_flag("--overwrite", o.overwrite, "Replace an existing output folder");
  sub->add_flag("--resume", o.resume, "Continue an interrupted run in the output folder");
  add_training_options(*sub, o);
  add_threads_option(*sub, o.n_threads);
  add_recipe_option(*sub);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary finetune model-w4.lap --data roman.jsonl --general chat.jsonl -o "
      "tuned\n"
      "  lapidary finetune model.lap --recipe recipes/lora.toml --data d.jsonl -o tuned --steps "
      "200");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
