// One run from options to adapter: data, plan, steps, checkpoints, output.
#include "finetune/finetune.h"

#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "finetune/checkpoint.h"
#include "finetune/examples.h"
#include "finetune/output_folder.h"
#include "finetune/plan.h"
#include "finetune/records.h"
#include "finetune/schedule.h"
#include "finetune/trainer.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "formats/provenance.h"
#include "runtime/model.h"

namespace lapidary {
namespace {

const std::vector<std::string> kDefaultTargets{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                               "gate_proj", "up_proj", "down_proj"};

void require(bool good, const char* option, const char* expected) {
  if (!good) fail(ErrorCode::kUsage, "{} should be {}", option, expected);
}

void validate(const FinetuneOptions& o) {
  require(!o.output.empty(), "-o", "the name of a folder");
  require(o.general_share >= 0 && o.general_share < 1, "--general-share", "at least 0 and below 1");
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
  require(o.checkpoint_steps >= 0, "checkpoint steps", "at least 0");
  parse_schedule(o.schedule);
  const bool interrupted = path_exists(o.output + "/checkpoint");
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

class Run {
 public:
  Run(const FinetuneOptions& options, const Events& events) : options_(options), events_(events) {}

  FinetuneReport operator()() {
    validate(options_);
    model_ = Model::load(options_.model);
    if (!model_->has_tokenizer())
      fail(ErrorCode::kBadData,
           "{}: has no tokenizer; convert the model again from a folder with "
           "tokenizer.json",
           options_.model);
    domain_ = read_examples(options_.data);
    if (!options_.general.empty() && options_.general_share > 0)
      general_ = read_examples(options_.general);
    make_plan();
    start_trainer();
    train();
    write();
    return report_;
  }

 private:
  ExampleSet read_examples(const std::string& path) {
    const RecordFile file = read_records(path);
    events_.note(file.describe());
    const ExampleMaker maker(model_->tokenizer(), model_->file().metadata(),
                             {options_.context, options_.train_on_all});
    ExampleSet set = maker.make(file);
    if (set.n_cut + set.n_dropped + set.n_windows > 0)
      events_.note(fmt::format(
          "{}: beyond the context of {} tokens, {} cut at the end, {} left out with nothing to "
          "learn, {} further pieces of long texts",
          path, options_.context, set.n_cut, set.n_dropped, set.n_windows));
    if (set.n_unrolled > 0)
      events_.note(fmt::format(
          "{}: the template renders {} conversations differently once they go on; each of their "
          "answers became an example of its own",
          path, set.n_unrolled));
    return set;
  }

  void make_plan() {
    const auto lengths = [](const ExampleSet& set) {
      std::vector<int64_t> n;
      for (const Example& e : set.examples) n.push_back(static_cast<int64_t>(e.ids.size()));
      return n;
    };
    plan_ = plan_training(lengths(domain_), lengths(general_),
                          {.general_share = general_.examples.empty() ? 0 : options_.general_share,
                           .batch_tokens = options_.batch_tokens,
                           .context = options_.context,
                           .epochs = options_.epochs,
                           .steps = options_.steps,
                           .seed = options_.seed});
  }

  void start_trainer() {
    PeftConfig config;
    config.rank = options_.rank;
    config.alpha = options_.alpha;
    config.rslora = options_.rslora;
    config.dora = options_.dora;
    config.target_modules = options_.targets.empty() ? kDefaultTargets : options_.targets;
    PeftAdapter initial = Trainer::initial_adapter(*model_, config, options_.seed);
    const ModelMetadata& metadata = model_->file().metadata();
    name_for_peft(initial.config, metadata);
    initial.base_hash = model_->file().content_hash();
    initial.base_source_hash = provenance_from_json(metadata.provenance).source_hash;
    TrainerOptions t;
    t.lora_plus_ratio = options_.lora_plus_ratio;
    t.weight_decay = options_.weight_decay;
    t.beta1 = options_.beta1;
    t.beta2 = options_.beta2;
    t.epsilon = options_.epsilon;
    t.clip_norm = options_.clip_norm;
    t.checkpoint_activations = options_.checkpoint_activations;
    t.n_threads = options_.n_threads;
    trainer_ = std::make_unique<Trainer>(model_, initial, t);
    report_.trained_parameters = trainer_->trained_parameters();
    events_.note(fmt::format("{} trained parameters in {} matrices, {} steps",
                             report_.trained_parameters, initial.modules.size(), plan_.size()));
    if (options_.resume) resume();
  }

  void resume() {
    Checkpoint checkpoint = read_checkpoint(checkpoint_folder(), identity());
    if (checkpoint.trainer.steps_done > static_cast<int64_t>(plan_.size()))
      fail(ErrorCode::kBadData, "{}: {} steps are done, this run has {}", checkpoint_folder(),
           checkpoint.trainer.steps_done, plan_.size());
    trainer_->restore(checkpoint.trainer);
    log_ = std::move(checkpoint.log);
    report_.losses = std::move(checkpoint.losses);
    saved_steps_ = checkpoint.trainer.steps_done;
    for (int64_t i = 0; i < saved_steps_; ++i) count_tokens(plan_[static_cast<size_t>(i)]);
    events_.note(fmt::format("continuing after step {}", saved_steps_));
  }

  void train() {
    const Schedule schedule = parse_schedule(options_.schedule);
    const auto total = static_cast<int64_t>(plan_.size());
    const auto start = std::chrono::steady_clock::now();
    int64_t tokens = 0;
    try {
      for (int64_t i = steps_done(); i < total; ++i) {
        events_.poll();
        const PlannedStep& planned = plan_[static_cast<size_t>(i)];
        const double rate =
            learning_rate_at(schedule, options_.learning_rate, i, options_.warmup_steps, total);
        const StepResult result = trainer_->step(rows_of(planned), rate);
        count_tokens(planned);
        tokens += planned.tokens;
        report_.losses.push_back(result.loss);
        log_ += to_json_line({i + 1, result.loss, result.gradient_norm, rate, report_.tokens,
                              report_.general_tokens});
        const bool due = options_.checkpoint_steps > 0 && (i + 1) % options_.checkpoint_steps == 0;
        if (due && i + 1 < total) save();
        events_.progress({"steps", static_cast<uint64_t>(i + 1), static_cast<uint64_t>(total), 0,
                          fmt::format("loss {:.4f}", result.loss)});
      }
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kInterrupted || steps_done() == 0 || steps_done() == total) throw;
      if (steps_done() > saved_steps_) save();
      fail(ErrorCode::kInterrupted, "interrupted after step {} of {}; continue with --resume",
           steps_done(), total);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    report_.tokens_per_second = static_cast<double>(tokens) / std::max(seconds.count(), 1e-9);
    report_.steps = total;
    report_.first_loss = report_.losses.front();
    report_.final_loss = report_.losses.back();
  }

  void write() {
    RunOutput output;
    output.adapter = trainer_->adapter();
    output.log = log_;
    output.recipe = options_.recipe;
    output.vocab_size = model_->config().vocab_size;
    output.probe_ids = model_->tokenizer().encode(kProbeText, {.add_special = true});
    output.probe_logits = trainer_->logits(output.probe_ids);
    const auto kept = static_cast<size_t>(kProbePositions * output.vocab_size);
    if (output.probe_logits.size() > kept)
      output.probe_logits.erase(output.probe_logits.begin(),
                                output.probe_logits.end() - static_cast<int64_t>(kept));
    const bool replace = options_.overwrite || options_.resume || saved_steps_ > 0;
    write_output(options_.output, replace, output);
  }

  std::vector<TokenRow> rows_of(const PlannedStep& step) const {
    std::vector<TokenRow> rows;
    for (const PlannedRow& planned : step.rows) {
      TokenRow& row = rows.emplace_back();
      for (const PlannedExample& p : planned) {
        const Example& e = (p.general ? general_ : domain_).examples[static_cast<size_t>(p.index)];
        row.ids.insert(row.ids.end(), e.ids.begin(), e.ids.begin() + p.n_tokens);
        row.labels.insert(row.labels.end(), e.labels.begin(), e.labels.begin() + p.n_tokens);
        row.lengths.push_back(p.n_tokens);
      }
    }
    return rows;
  }

  void count_tokens(const PlannedStep& step) {
    report_.tokens += step.tokens;
    report_.general_tokens += step.general_tokens;
  }

  int64_t steps_done() const { return static_cast<int64_t>(report_.losses.size()); }
  std::string checkpoint_folder() const { return options_.output + "/checkpoint"; }

  void save() {
    std::error_code error;
    std::filesystem::create_directories(options_.output, error);
    if (error) fail(ErrorCode::kIo, "{}: {}", options_.output, error.message());
    write_checkpoint(checkpoint_folder(), {trainer_->state(), identity(), log_, report_.losses});
    saved_steps_ = steps_done();
  }

  // What must agree for a resumed run to be the same run. Threads may differ: then sums are taken
  // in another order, and only bytes, not meaning, change.
  std::map<std::string, std::string> identity() const {
    const auto hash_of = [](const std::string& path) {
      return path.empty() ? std::string("none") : to_hex(hash_bytes(MappedFile(path).bytes()));
    };
    const FinetuneOptions& o = options_;
    return {{"model", model_->file().content_hash()},
            {"data", hash_of(o.data)},
            {"general data", hash_of(o.general)},
            {"--general-share", fmt::format("{}", o.general_share)},
            {"--rank", fmt::format("{}", o.rank)},
            {"--alpha", fmt::format("{}", o.alpha)},
            {"--rslora", fmt::format("{}", o.rslora)},
            {"--dora", fmt::format("{}", o.dora)},
            {"--targets", fmt::format("{}", fmt::join(o.targets, ","))},
            {"--lr", fmt::format("{}", o.learning_rate)},
            {"--lora-plus", fmt::format("{}", o.lora_plus_ratio)},
            {"--weight-decay", fmt::format("{}", o.weight_decay)},
            {"betas and epsilon", fmt::format("{} {} {}", o.beta1, o.beta2, o.epsilon)},
            {"--clip", fmt::format("{}", o.clip_norm)},
            {"--schedule", o.schedule},
            {"--warmup", fmt::format("{}", o.warmup_steps)},
            {"--epochs", o.steps > 0 ? "unused" : fmt::format("{}", o.epochs)},
            {"--steps", fmt::format("{}", o.steps)},
            {"--context", fmt::format("{}", o.context)},
            {"--batch-tokens", fmt::format("{}", o.batch_tokens)},
            {"--train-on-all", fmt::format("{}", o.train_on_all)},
            {"--seed", fmt::format("{}", o.seed)}};
  }

  const FinetuneOptions& options_;
  const Events& events_;
  std::shared_ptr<const Model> model_;
  ExampleSet domain_, general_;
  std::vector<PlannedStep> plan_;
  std::unique_ptr<Trainer> trainer_;
  FinetuneReport report_;
  std::string log_;
  int64_t saved_steps_ = 0;  // in the last checkpoint
};

}  // namespace

FinetuneReport finetune(const FinetuneOptions& options, const Events& events) {
  return Run(options, events)();
}

}  // namespace lapidary
