// Ranges, names, and the folder a run may write into.
#include "finetune/run_options.h"

#include <fmt/ranges.h>

#include <cmath>
#include <filesystem>

#include "finetune/examples.h"
#include "finetune/output_folder.h"
#include "finetune/schedule.h"
#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

void require(bool good, const char* option, const char* expected) {
  if (!good) fail(ErrorCode::kUsage, "{} should be {}", option, expected);
}

void check_training(const FinetuneOptions& o) {
  require(o.rank > 0 && o.rank <= 4096, "--rank", "between 1 and 4096");
  require(std::isfinite(o.alpha) && o.alpha > 0, "--alpha", "above 0");
  require(std::isfinite(o.learning_rate) && o.learning_rate > 0, "--lr", "above 0");
  require(std::isfinite(o.lora_plus_ratio) && o.lora_plus_ratio > 0, "--lora-plus", "above 0");
  require(std::isfinite(o.weight_decay) && o.weight_decay >= 0, "--weight-decay", "at least 0");
  require(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, "betas",
          "at least 0 and below 1");
  require(o.epsilon > 0, "epsilon", "above 0");
  require(o.clip_norm >= 0, "--clip", "at least 0");
  require(o.warmup_steps >= 0, "--warmup", "at least 0");
  require(o.steps >= 0, "--steps", "at least 0");
  require(o.steps > 0 || (std::isfinite(o.epochs) && o.epochs > 0), "--epochs", "above 0");
  require(o.context >= 2, "--context", "at least 2");
  require(o.batch_tokens >= 1, "--batch-tokens", "at least 1");
  require(o.kept_bytes >= 0, "--kept-outputs", "at least 0");
  require(o.checkpoint_steps >= 0, "--checkpoint-steps", "at least 0");
  require(o.checkpoint_keep >= 1, "--keep-checkpoints", "at least 1");
  parse_schedule(o.schedule);
}

void check_general(const FinetuneOptions& o) {
  require(o.general_share >= 0 && o.general_share < 1, "--general-share", "at least 0 and below 1");
  require(o.replay >= 0, "--replay", "at least 0");
  require(std::isfinite(o.replay_weight) && o.replay_weight > 0, "--replay-weight", "above 0");
  require(std::isfinite(o.kl_to_base) && o.kl_to_base >= 0, "--kl-to-base", "at least 0");
  require(o.kl_to_base == 0 || !o.general.empty() || o.replay > 0, "--kl-to-base",
          "used with general data: give --general or --replay");
  require(std::isfinite(o.kl_prompts) && o.kl_prompts >= 0, "--kl-prompts", "at least 0");
  require(!o.keep_only || o.kl_to_base > 0, "--keep-only", "used with --kl-to-base");
  require(o.hold_out >= 0 && o.hold_out != 1, "--hold-out", "0, or at least 2");
  require(o.eval_steps >= 0, "--eval-steps", "at least 0");
  require(std::isfinite(o.gate_nats) && o.gate_nats >= 0, "--gate-nats", "at least 0");
  require(o.gate_points >= 0 && o.gate_points <= 1, "--gate-points", "between 0 and 1");
  parse_too_long(o.too_long);
}

void check_merge_aware(const FinetuneOptions& o) {
  if (o.merge_aware.code.empty()) return;
  require(o.merge_aware.steps > 0, "--merge-aware-steps", "above 0");
  require(!o.dora, "--merge-aware", "used without --dora");
  require(o.merge_aware.round && o.merge_aware.pack, "--merge-aware", "a code that merge knows");
}

}  // namespace

void validate(const FinetuneOptions& o) {
  require(!o.output.empty(), "-o", "the name of a folder");
  check_training(o);
  check_general(o);
  check_merge_aware(o);
  const bool interrupted = is_unfinished_run(o.output);
  if (path_exists(o.output) && !o.overwrite && !o.resume) {
    fail(ErrorCode::kUsage, "{}: exists already{}", o.output,
         interrupted ? " and holds an interrupted run; give --resume or --overwrite"
                     : "; choose another name or give --overwrite");
  }
  // --overwrite replaces an earlier run, never a folder that holds something else.
  std::error_code unreadable;
  if (is_folder(o.output) && !interrupted && !path_exists(o.output + "/adapter_config.json") &&
      !std::filesystem::is_empty(o.output, unreadable))
    fail(ErrorCode::kUsage,
         "{}: holds neither an adapter nor an interrupted run; choose another name", o.output);
}

std::map<std::string, std::string> identity_of(const FinetuneOptions& o) {
  const auto text = [](auto value) { return fmt::format("{}", value); };
  std::map<std::string, std::string> identity{
      {"--general-share", text(o.general_share)},
      {"--replay", fmt::format("{} {}", o.replay, o.replay_weight)},
      {"--kl-to-base", text(o.kl_to_base)},
      {"--kl-prompts", text(o.kl_prompts)},
      {"--keep-only", text(o.keep_only)},
      {"--too-long", o.too_long},
      {"--hold-out", text(o.hold_out)},
      {"--eval-steps", text(o.eval_steps)},
      {"--gate-nats", text(o.gate_nats)},
      {"--gate-points", text(o.gate_points)},
      {"--merge-aware", fmt::format("{} {}", o.merge_aware.code, o.merge_aware.steps)},
      {"--rank", text(o.rank)},
      {"--rank-for", fmt::format("{}", fmt::join(o.rank_for, ","))},
      {"--adam-8bit", text(o.adam_8bit)},
      {"--alpha", text(o.alpha)},
      {"--rslora and --dora", fmt::format("{} {}", o.rslora, o.dora)},
      {"--targets", fmt::format("{}", fmt::join(o.targets, ","))},
      {"--lr", text(o.learning_rate)},
      {"--lora-plus", text(o.lora_plus_ratio)},
      {"--weight-decay", text(o.weight_decay)},
      {"betas and epsilon", fmt::format("{} {} {}", o.beta1, o.beta2, o.epsilon)},
      {"--clip", text(o.clip_norm)},
      {"--schedule", o.schedule},
      {"--warmup", text(o.warmup_steps)},
      {"--epochs", o.steps > 0 ? "unused" : text(o.epochs)},
      {"--steps", text(o.steps)},
      {"--context", text(o.context)},
      {"--batch-tokens", text(o.batch_tokens)},
      {"--checkpoint-activations and --kept-outputs",
       o.checkpoint_activations ? text(o.kept_bytes) : "off"},
      {"--train-on-all", text(o.train_on_all)},
      {"--seed", text(o.seed)}};
  return identity;
}

}  // namespace lapidary
