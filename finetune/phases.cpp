// Making trainers, and handing over from one to the next.
#include "finetune/phases.h"

#include <unistd.h>

#include <filesystem>

#include "finetune/output_folder.h"
#include "formats/error.h"
#include "formats/provenance.h"

namespace lapidary {
namespace {

const std::vector<std::string> kDefaultTargets{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                               "gate_proj", "up_proj", "down_proj"};

PeftConfig peft_config(const FinetuneOptions& o) {
  PeftConfig config;
  config.rank = o.rank;
  config.alpha = o.alpha;
  config.rslora = o.rslora;
  config.dora = o.dora;
  config.target_modules = o.targets.empty() ? kDefaultTargets : o.targets;
  return config;
}

}  // namespace

Phases::Phases(const FinetuneOptions& options, std::shared_ptr<const Model> model, int64_t n_steps,
               ProcessGroup* group)
    : options_(options), model_(std::move(model)), group_(group) {
  const ModelMetadata& metadata = model_->file().metadata();
  initial_ =
      Trainer::initial_adapter(*model_, peft_config(options), options.seed, options.rank_for);
  name_for_peft(initial_.config, metadata);
  initial_.base_hash = model_->file().content_hash();
  initial_.base_source_hash = provenance_from_json(metadata.provenance).source_hash;
  if (!options.merge_aware.code.empty()) {
    for (const LapTensor& t : model_->file().index())
      if (!traits(t.code).is_float)
        fail(ErrorCode::kUsage,
             "{}: packed (tensor {} is {}); --merge-aware trains towards a merge into the float "
             "master, so give the master",
             options.model, t.name, code_name(t.code));
    merge_aware_from_ = std::max<int64_t>(0, n_steps - options.merge_aware.steps);
  }
  trainer_ = std::make_unique<Trainer>(model_, initial_, trainer_options());
}

TrainerOptions Phases::trainer_options() const {
  TrainerOptions t;
  t.lora_plus_ratio = options_.lora_plus_ratio;
  t.weight_decay = options_.weight_decay;
  t.beta1 = options_.beta1;
  t.beta2 = options_.beta2;
  t.epsilon = options_.epsilon;
  t.clip_norm = options_.clip_norm;
  t.adam_8bit = options_.adam_8bit;
  t.checkpoint_activations = options_.checkpoint_activations;
  t.kept_bytes = options_.kept_bytes;
  t.precision = parse_precision(options_.precision);
  t.n_threads = options_.n_threads;
  t.kl_to_base = options_.kl_to_base;
  t.kl_prompts = options_.kl_prompts;
  t.group = group_;
  return t;
}

void Phases::load(const std::vector<LoraModule>& modules) {
  TrainerState state = trainer_->state();
  for (NamedFloats& tensor : state.tensors)
    for (const LoraModule& m : modules) {
      if (tensor.name == m.module + ".a") tensor.values = m.a;
      if (tensor.name == m.module + ".b") tensor.values = m.b;
      if (tensor.name == m.module + ".magnitude") tensor.values = m.magnitude;
    }
  trainer_->restore(state);
}

void Phases::enter(int64_t steps_done, const Events& events) {
  if (merge_aware_ || merge_aware_from_ < 0 || steps_done < merge_aware_from_) return;
  merge_aware_ = true;
  events.note(
      fmt::format("merge-aware from step {}: the forward pass uses {} weights as merge "
                  "will store them",
                  steps_done + 1, options_.merge_aware.code));
  // Lives as long as its mapping; a process that dies leaves it to the system's cleaning.
  const std::string packed = (std::filesystem::temp_directory_path() /
                              fmt::format("lapidary-merge-aware-{}.lap", ::getpid()))
                                 .string();
  options_.merge_aware.pack(packed, {});
  const std::shared_ptr<const Model> model = Model::load(packed);
  std::error_code ignored;
  std::filesystem::remove(packed, ignored);
  const TrainerState state = trainer_->state();
  TrainerOptions t = trainer_options();
  t.merge_rounding = options_.merge_aware.round;
  trainer_ = std::make_unique<Trainer>(model, initial_, t);
  trainer_->restore(state);
}

}  // namespace lapidary
