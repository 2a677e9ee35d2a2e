// Who trains at which step: one trainer for the whole run, or, in merge-aware runs, a second one
// for the last steps, on the packed model and through the merge's own rounding.
#pragma once

#include <memory>
#include <string>

#include "finetune/finetune.h"
#include "finetune/trainer.h"

namespace lapidary {

class Phases {
 public:
  // `group` may be null; it and `options` must outlive this.
  Phases(const FinetuneOptions& options, std::shared_ptr<const Model> model, int64_t n_steps,
         ProcessGroup* group);

  // Makes trainer() the one for the step after `steps_done`, carrying its state over.
  void enter(int64_t steps_done, const Events& events);
  Trainer& trainer() { return *trainer_; }
  // Makes these modules the trainer's adapter.
  void load(const std::vector<LoraModule>& modules);
  // An adapter of that step is one the run may end with.
  bool is_last(int64_t steps_done) const { return steps_done > merge_aware_from_; }

 private:
  TrainerOptions trainer_options() const;

  const FinetuneOptions& options_;
  std::shared_ptr<const Model> model_;
  PeftAdapter initial_;
  ProcessGroup* group_;
  int64_t merge_aware_from_ = -1;  // steps done before the second phase; -1: there is none
  bool merge_aware_ = false;       // we are in it
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace lapidary
