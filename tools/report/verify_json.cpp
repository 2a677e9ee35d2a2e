// Fields in a fixed order, so that two reports can be compared with diff.
#include "tools/report/verify_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/report/svg.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const TextComparison& text) {
  return {{"tokens", text.tokens},
          {"nll_base", text.nll_base},
          {"nll_candidate", text.nll_candidate},
          {"interval", {text.interval[0], text.interval[1]}},
          {"kld_mean", text.kld_mean},
          {"kld_median", text.kld_median},
          {"kld_p99", text.kld_p99},
          {"top1_agreement", text.top1_agreement}};
}

Json to_json(const EndpointComparison& e) {
  return {{"positions", e.positions},
          {"kld_mean", e.kld_mean},
          {"interval", {e.interval[0], e.interval[1]}},
          {"kld_p99", e.kld_p99},
          {"top1_agreement", e.top1_agreement},
          {"largest_difference", e.largest_difference}};
}

Json to_json(const TaskComparison& task) {
  return {{"items", task.items},
          {"base", task.base},
          {"candidate", task.candidate},
          {"difference", task.difference},
          {"interval", {task.interval[0], task.interval[1]}}};
}

std::string test_case(const std::string& suite, const std::string& name, Verdict verdict,
                      const std::string& what) {
  std::string out =
      fmt::format("  <testcase classname=\"{}\" name=\"{}\"", escape_xml(suite), escape_xml(name));
  if (verdict == Verdict::kPass) return out + "/>\n";
  const char* element = verdict == Verdict::kFail ? "failure" : "skipped";
  return out +
         fmt::format(">\n    <{} message=\"{}\"/>\n  </testcase>\n", element, escape_xml(what));
}

std::string task_summary(const TaskComparison& task) {
  return fmt::format("{:+.2f} points (95 % interval {:+.2f} to {:+.2f}, {} items)",
                     100 * task.difference, 100 * task.interval[0], 100 * task.interval[1],
                     task.items);
}

}  // namespace

std::string verify_json(const VerifyResult& result) {
  Json tasks = Json::object();
  for (const auto& [name, task] : result.tasks) tasks[name] = to_json(task);
  Json report = {{"verdict", verdict_name(result.verdict)},
                 {"text", result.text ? to_json(*result.text) : Json()},
                 {"tasks", tasks},
                 {"margins",
                  {{"nats", result.margins.nats},
                   {"task", result.margins.task},
                   {"pooled", result.margins.pooled}}},
                 {"reasons", result.reasons}};
  if (result.endpoint) report["endpoint"] = to_json(*result.endpoint);
  return report.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string verify_junit(const VerifyResult& result, const std::string& name) {
  std::string cases;
  int n_cases = 0, failures = 0, skipped = 0;
  const auto add = [&](const std::string& measure, Verdict verdict, const std::string& what) {
    cases += test_case(name, measure, verdict, what);
    ++n_cases;
    failures += verdict == Verdict::kFail;
    skipped += verdict == Verdict::kInconclusive;
  };
  if (const auto& text = result.text)
    add("text", judge_text(result),
        fmt::format("{:+.4f} nats per token (95 % interval {:+.4f} to {:+.4f}, {} tokens)",
                    text->nll_candidate - text->nll_base, text->interval[0], text->interval[1],
                    text->tokens));
  if (const auto& e = result.endpoint)
    add("server", judge_endpoint(result),
        fmt::format("KLD {:.5f} (95 % interval {:.5f} to {:.5f}, {} places)", e->kld_mean,
                    e->interval[0], e->interval[1], e->positions));
  for (const auto& [task_name, task] : result.tasks)
    add("task " + task_name, judge_task(result, task_name), task_summary(task));
  return fmt::format(
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" "
             "failures=\"{}\" "
             "errors=\"0\" skipped=\"{}\">\n",
             escape_xml(name), n_cases, failures, skipped) +
         cases + "</testsuite>\n";
}

}  // namespace lapidary
