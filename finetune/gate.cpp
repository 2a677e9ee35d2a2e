// Paired differences and their intervals.
#include "finetune/gate.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/verify/statistics.h"

namespace lapidary {
namespace {

constexpr int64_t kResamples = 1000;

double sum_of_losses(const std::vector<RowMeasure>& measures, int64_t* n) {
  double sum = 0;
  *n = 0;
  for (const RowMeasure& m : measures) {
    sum += m.nll;
    *n += m.n_learned;
  }
  return sum;
}

}  // namespace

std::string to_json_line(const Evaluation& e) {
  nlohmann::ordered_json json{{"step", e.step}};
  const auto put = [&](const char* name, const std::optional<double>& value) {
    if (value) json[name] = *value;
  };
  put("domain_loss", e.domain_loss);
  put("general_loss", e.general_loss);
  if (e.general_rise) {
    json["general_rise"] = *e.general_rise;
    json["general_interval"] = {*e.general_low, *e.general_high};
  }
  put("general_kl", e.general_kl);
  put("task_share", e.task_share);
  if (e.task_difference) {
    json["task_difference"] = *e.task_difference;
    json["task_interval"] = {*e.task_low, *e.task_high};
  }
  json["gate"] = e.failed ? "FAIL" : "PASS";
  return json.dump() + "\n";
}

Gate::Gate(const GateOptions& options, std::vector<TokenRow> domain, std::vector<TokenRow> general,
           std::vector<TaskItem> tasks, AnswerTasks answer)
    : options_(options),
      domain_(std::move(domain)),
      general_(std::move(general)),
      tasks_(std::move(tasks)),
      answer_(std::move(answer)) {}

Evaluation Gate::start(Trainer& trainer) {
  if (!general_.empty())
    for (const RowMeasure& m : trainer.measure(general_)) general_base_.push_back(m.nll);
  if (!tasks_.empty()) tasks_base_ = answer_(trainer.adapter());
  return evaluate(trainer, 0);
}

Evaluation Gate::evaluate(Trainer& trainer, int64_t step) {
  Evaluation e;
  e.step = step;
  if (!domain_.empty()) {
    int64_t n = 0;
    const double sum = sum_of_losses(trainer.measure(domain_), &n);
    e.domain_loss = sum / static_cast<double>(n);
  }
  if (!general_.empty()) measure_general(trainer, e);
  if (!tasks_.empty()) measure_tasks(trainer, e);
  return e;
}

// Fails when even the low end of the interval is beyond what is tolerated.
void Gate::measure_general(Trainer& trainer, Evaluation& e) {
  const std::vector<RowMeasure> measures = trainer.measure(general_);
  int64_t n = 0, n_kept = 0;
  e.general_loss = sum_of_losses(measures, &n) / static_cast<double>(n);
  std::vector<double> rises;
  std::vector<int64_t> counts;
  double rise = 0, kl = 0;
  for (size_t i = 0; i < measures.size(); ++i) {
    if (measures[i].n_learned == 0) continue;
    rises.push_back(measures[i].nll - general_base_[i]);
    counts.push_back(measures[i].n_learned);
    rise += rises.back();
    kl += measures[i].kl;
    n_kept += measures[i].n_kept;
  }
  e.general_rise = rise / static_cast<double>(n);
  e.general_kl = n_kept ? kl / static_cast<double>(n_kept) : 0.0;
  Interval interval{*e.general_rise, *e.general_rise};
  if (rises.size() > 1) interval = cluster_bootstrap(rises, counts, kResamples, /*seed=*/1);
  e.general_low = interval.first;
  e.general_high = interval.second;
  e.failed = e.failed || interval.first > options_.nats;
}

void Gate::measure_tasks(Trainer& trainer, Evaluation& e) {
  const std::vector<uint8_t> now = e.step == 0 ? tasks_base_ : answer_(trainer.adapter());
  const TaskComparison pooled = compare_tasks(tasks_, tasks_base_, now).at(kPooledName);
  e.task_share = pooled.candidate;
  e.task_difference = pooled.difference;
  e.task_low = pooled.interval[0];
  e.task_high = pooled.interval[1];
  e.failed = e.failed || pooled.interval[1] < -options_.points;
}

std::string describe(const Evaluation& e) {
  std::string text = fmt::format("step {}:", e.step);
  if (e.domain_loss) text += fmt::format(" held-out domain loss {:.4f};", *e.domain_loss);
  if (e.general_rise)
    text += fmt::format(" general {:+.4f} nats [{:+.4f}, {:+.4f}], KL {:.4f};", *e.general_rise,
                        *e.general_low, *e.general_high, *e.general_kl);
  if (e.task_difference)
    text += fmt::format(" tasks {:.1f} %, {:+.1f} points [{:+.1f}, {:+.1f}];", 100 * *e.task_share,
                        100 * *e.task_difference, 100 * *e.task_low, 100 * *e.task_high);
  return text + (e.failed ? " the gate FAILS" : " gate passed");
}

std::vector<Evaluation> evaluations_of_log(const std::string& log) {
  std::vector<Evaluation> evaluations;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    try {
      const nlohmann::json json = nlohmann::json::parse(line);
      if (!json.contains("gate")) continue;
      Evaluation& e = evaluations.emplace_back();
      e.step = json.at("step").get<int64_t>();
      e.failed = json.at("gate").get<std::string>() == "FAIL";
      if (json.contains("domain_loss")) e.domain_loss = json.at("domain_loss").get<double>();
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorCode::kBadData, "the log of the run: {}", error.what());
    }
  }
  return evaluations;
}

bool BestSoFar::take(const Evaluation& evaluation, bool eligible) {
  failures_ = evaluation.failed ? failures_ + 1 : 0;
  if (evaluation.failed || evaluation.step == 0 || !eligible) return false;
  if (best_ && evaluation.domain_loss && *evaluation.domain_loss >= *best_->domain_loss)
    return false;
  best_ = evaluation;
  return true;
}

}  // namespace lapidary
