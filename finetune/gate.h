// Does the tuned model still do what the base did? Asked during training, on held-out data.
//
// Every so many steps the present adapter is measured against step 0, paired example by example:
// the loss on held-out general examples, KL(base || tuned) there, the loss on held-out domain
// examples, and, where a tasks file is given, right and wrong answers. An evaluation fails when the
// interval of the loss of ability lies beyond the tolerance; two failures in a row stop the run.
// What is kept is the best adapter whose evaluation did not fail: the lowest loss on held-out
// domain data, or else the latest.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "finetune/trainer.h"
#include "formats/events.h"
#include "runtime/verify/tasks.h"

namespace lapidary {

struct GateOptions {
  double nats = 0.02;    // tolerated rise of the mean loss on general examples
  double points = 0.02;  // tolerated fall of the share of tasks answered rightly
  int n_threads = 0;
};

struct Evaluation {
  int64_t step = 0;
  std::optional<double> domain_loss;
  // Mean rise of the loss per held-out general token against step 0, its 95 % interval, and KL.
  std::optional<double> general_loss, general_rise, general_low, general_high, general_kl;
  // Pooled share of rightly answered tasks, difference to step 0, Tango's 95 % interval.
  std::optional<double> task_share, task_difference, task_low, task_high;
  bool failed = false;
};
std::string to_json_line(const Evaluation& evaluation);  // with the newline
std::string describe(const Evaluation& evaluation);      // for people, one line
// The evaluations in a log.jsonl, as far as BestSoFar needs them. Throws kBadData.
std::vector<Evaluation> evaluations_of_log(const std::string& log);

class Gate {
 public:
  // Any of the three may be empty. `answer`: right (1) and wrong (0) of the tasks under the
  // trainer's present adapter.
  using AnswerTasks = std::function<std::vector<uint8_t>(const PeftAdapter& adapter)>;
  Gate(const GateOptions& options, std::vector<TokenRow> domain, std::vector<TokenRow> general,
       std::vector<TaskItem> tasks, AnswerTasks answer);

  bool empty() const { return domain_.empty() && general_.empty() && tasks_.empty(); }
  // Step 0: what all else is compared with. Of a resumed run too, on the untouched adapter.
  Evaluation start(Trainer& trainer);
  Evaluation evaluate(Trainer& trainer, int64_t step);

 private:
  void measure_general(Trainer& trainer, Evaluation& evaluation);
  void measure_tasks(Trainer& trainer, Evaluation& evaluation);

  GateOptions options_;
  std::vector<TokenRow> domain_, general_;
  std::vector<TaskItem> tasks_;
  AnswerTasks answer_;
  std::vector<double> general_base_;  // loss of each general row at step 0
  std::vector<uint8_t> tasks_base_;
};

// Which evaluation to keep, and when to stop; follows from the evaluations alone, so that a resumed
// run decides as an uninterrupted one.
class BestSoFar {
 public:
  // True when this evaluation is the one to keep. One that is not eligible can only fail.
  bool take(const Evaluation& evaluation, bool eligible);
  bool should_stop() const { return failures_ >= kPatience; }
  int64_t step() const { return best_ ? best_->step : 0; }  // 0: none passed yet

  static constexpr int kPatience = 2;

 private:
  std::optional<Evaluation> best_;
  int failures_ = 0;  // in a row, at the end
};

}  // namespace lapidary
