// Which files are read, in which order, and for what.
#include "finetune/run_data.h"

#include <filesystem>

#include "finetune/replay.h"
#include "formats/error.h"
#include "formats/file.h"
#include "runtime/verify/scorer.h"

namespace lapidary {
namespace {

// Held-out general examples that the gate measures; more would cost more than they tell.
constexpr size_t kMostHeldOut = 200;

std::string parent_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string hash_of_file(const std::string& path) {
  return path.empty() ? "none" : to_hex(hash_bytes(MappedFile(path).bytes()));
}

// Answers of a model with an adapter, by way of a folder that the scorer can read.
Gate::AnswerTasks answer_tasks(const FinetuneOptions& options, const std::vector<TaskItem>& tasks) {
  return [&options, tasks](const PeftAdapter& adapter) {
    const auto folder = std::filesystem::temp_directory_path() /
                        fmt::format("lapidary-gate-{}", static_cast<const void*>(&options));
    AtomicFolder written(folder.string(), /*overwrite=*/true);
    write_peft(written.temporary(), adapter);
    EngineScorerOptions scorer_options;
    scorer_options.engine.n_threads = options.n_threads;
    scorer_options.adapter_folder = written.temporary();
    const auto scorer = make_engine_scorer(options.model, scorer_options);
    return score_tasks(*scorer, tasks, {});
  };
}

}  // namespace

RunData::RunData(const FinetuneOptions& options, std::shared_ptr<const Model> model,
                 int n_processes, const Events& events)
    : options_(options),
      model_(std::move(model)),
      events_(events),
      maker_(model_->tokenizer(), model_->file().metadata(),
             {options.context, options.train_on_all, parse_too_long(options.too_long)}) {
  ExampleLoader loader(maker_, parent_of(options.output), events);
  sources_.push_back(loader.load(options.data));
  if (options.general_share > 0) load_general(loader);
  load_held_out(loader);
  for (const LoadedSource& source : sources_) stores_.push_back(&source.examples);
  identity_["data"] = to_hex(sources_[0].summary.hash);
  std::string general;
  for (size_t i = 1; i < sources_.size(); ++i)
    general +=
        fmt::format("{}{}={}", i > 1 ? " " : "", to_hex(sources_[i].summary.hash), weights_[i - 1]);
  identity_["general data"] = general.empty() ? "none" : general;
  identity_["--eval-data"] = hash_of_file(options.eval_data);
  identity_["--eval-general"] = hash_of_file(options.eval_general);
  identity_["--gate-tasks"] = hash_of_file(options.gate_tasks);
  if (options.kl_to_base > 0) use_.general = Keep::kAll;
  if (options.kl_prompts > 0) use_.domain = Keep::kPrompt;
  use_.learn_general = !options.keep_only;
  make_plan(n_processes);
}

void RunData::load_general(ExampleLoader& loader) {
  const bool holds_out = options_.eval_general.empty();
  for (const std::string& text : options_.general) {
    const GeneralSource source = parse_general(text);
    sources_.push_back(loader.load(source.path, holds_out ? options_.hold_out : 0,
                                   holds_out ? &held_out_general_ : nullptr));
    weights_.push_back(source.weight);
  }
  if (options_.replay > 0) {
    const std::string path = options_.output + ".replay.jsonl";
    // A resumed run would make the very same; it takes what is there.
    if (!options_.resume || !path_exists(path))
      make_replay({options_.replay, options_.replay_prompts, options_.context, options_.seed,
                   options_.n_threads},
                  model_, path, events_);
    sources_.push_back(loader.load(path, holds_out ? options_.hold_out : 0,
                                   holds_out ? &held_out_general_ : nullptr));
    weights_.push_back(options_.replay_weight);
  }
}

void RunData::load_held_out(ExampleLoader& loader) {
  if (!options_.eval_data.empty()) held_out_domain_ = loader.load_held_out(options_.eval_data);
  if (!options_.eval_general.empty())
    held_out_general_ = loader.load_held_out(options_.eval_general);
  else if (held_out_general_.size() > kMostHeldOut)
    held_out_general_.resize(kMostHeldOut);
  if (!options_.gate_tasks.empty()) tasks_ = read_tasks(options_.gate_tasks, 0);
}

void RunData::make_plan(int n_processes) {
  std::vector<GeneralLengths> general;
  for (size_t i = 1; i < sources_.size(); ++i)
    general.push_back({sources_[i].examples.lengths(), weights_[i - 1]});
  const int64_t part = (options_.batch_tokens + n_processes - 1) / n_processes;
  const int64_t row_tokens = n_processes > 1 ? std::min(options_.context, part) : options_.context;
  plan_ = plan_training(sources_[0].examples.lengths(), general,
                        {.general_share = general.empty() ? 0 : options_.general_share,
                         .batch_tokens = options_.batch_tokens,
                         .context = row_tokens,
                         .epochs = options_.epochs,
                         .steps = options_.steps,
                         .seed = options_.seed});
}

Gate RunData::make_gate() {
  return Gate({options_.gate_nats, options_.gate_points, options_.n_threads},
              rows_of(held_out_domain_, Keep::kNothing), rows_of(held_out_general_, Keep::kAll),
              tasks_, answer_tasks(options_, tasks_));
}

}  // namespace lapidary
