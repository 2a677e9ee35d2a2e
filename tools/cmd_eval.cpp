// lapidary eval: perplexity and task scores of one model.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "runtime/verify/tasks.h"
#include "runtime/verify/text_measure.h"
#include "tools/cli/command_options.h"
#include "tools/cli/progress.h"
#include "tools/cli/task_source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct EvalCommand {
  std::string model, text_file, tasks_file;
  TextOptions text;
  int64_t limit_items = 0;
  ModelOptions model_options;
  OutputOptions out;

  int run() const {
    if (text_file.empty() && tasks_file.empty())
      fail(ErrorCode::kUsage, "eval needs --text FILE or --tasks FILE");
    ProgressLine progress(out.quiet);
    const Events events = progress.events();
    const std::unique_ptr<Scorer> scorer =
        make_engine_scorer(model, model_options.scorer_options());
    nlohmann::ordered_json json;
    if (!text_file.empty()) {
      const TextResult r = measure_text(*scorer, read_text(text_file), text, events);
      json = {{"tokens", r.tokens},
              {"nll", r.nll},
              {"perplexity", r.perplexity},
              {"seconds", r.seconds},
              {"tokens_per_second", r.tokens_per_second}};
    }
    if (!tasks_file.empty()) {
      const std::vector<TaskItem> items = load_tasks(tasks_file, limit_items, scorer->tokenizer());
      for (const auto& [name, r] : summarize(items, score_tasks(*scorer, items, events)))
        json["tasks"][name] = {{"items", r.items},
                               {"accuracy", r.accuracy},
                               {"interval", {r.interval[0], r.interval[1]}}};
    }
    if (out.json) {
      fmt::print("{}\n", json.dump());
      return 0;
    }
    if (json.contains("nll"))
      fmt::print("{} tokens  nll {:.5f} nats  perplexity {:.4f}  ({:.0f} tokens/s)\n",
                 json["tokens"].get<int64_t>(), json["nll"].get<double>(),
                 json["perplexity"].get<double>(), json["tokens_per_second"].get<double>());
    const auto tasks = json.value("tasks", nlohmann::ordered_json::object());
    for (const auto& [name, r] : tasks.items())
      fmt::print("{:16} {:5} items  {:5.1f} %  [{:.1f}, {:.1f}]\n", name, r["items"].get<int64_t>(),
                 100 * r["accuracy"].get<double>(), 100 * r["interval"][0].get<double>(),
                 100 * r["interval"][1].get<double>());
    return 0;
  }
};

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* sub = app.add_subcommand("eval", "Perplexity and task scores of one model");
  sub->add_option("model", command->model, "A .lap file")->required()->type_name("M.lap");
  sub->add_option("--text", command->text_file, "Text to predict")->type_name("FILE");
  sub->add_option("--tasks", command->tasks_file, kTasksHelp)->type_name("FILE");
  add_measure_options(*sub, command->text, command->limit_items);
  add_model_options(*sub, command->model_options);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary eval model.lap --text book.txt --context 4096\n"
      "  lapidary eval model-w4.lap --tasks skills.jsonl --limit-items 50 --json");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
