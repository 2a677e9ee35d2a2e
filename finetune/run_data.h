// The data of one run, as its options ask for them: sources loaded, batches planned, held-out sets
// ready for the gate.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "finetune/data_set.h"
#include "finetune/finetune.h"
#include "finetune/gate.h"
#include "runtime/model.h"

namespace lapidary {

class RunData {
 public:
  // Reads everything. `options` and `events` must outlive this. Throws as ExampleLoader does.
  // Rows are short enough that each of `n_processes` has its part of a step.
  RunData(const FinetuneOptions& options, std::shared_ptr<const Model> model, int n_processes,
          const Events& events);

  int64_t n_steps() const { return static_cast<int64_t>(plan_.size()); }
  const std::vector<PlannedStep>& plan() const { return plan_; }
  std::vector<TokenRow> rows(const PlannedStep& step) const { return rows_of(step, stores_, use_); }
  // Hashes of all files, as they enter a run's identity.
  std::map<std::string, std::string> identity() const { return identity_; }
  Gate make_gate();  // takes the held-out sets; call once

 private:
  void load_general(ExampleLoader& loader);
  void load_held_out(ExampleLoader& loader);
  void make_plan(int n_processes);

  const FinetuneOptions& options_;
  std::shared_ptr<const Model> model_;
  const Events& events_;
  ExampleMaker maker_;
  std::vector<LoadedSource> sources_;  // domain first
  std::vector<double> weights_;        // of the general ones
  ExampleUse use_;
  std::vector<const ExampleStore*> stores_;  // of the sources
  std::vector<Example> held_out_domain_, held_out_general_;
  std::vector<TaskItem> tasks_;
  std::vector<PlannedStep> plan_;
  std::map<std::string, std::string> identity_;
};

}  // namespace lapidary
