// lapidary verify: two models on the same tokens and items, and a verdict one can sign.
#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <memory>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "formats/provenance.h"
#include "runtime/kv_choice.h"
#include "runtime/verify/builtin_text.h"
#include "runtime/verify/verdict.h"
#include "tools/cli/command_options.h"
#include "tools/cli/endpoint_options.h"
#include "tools/cli/keep_inputs.h"
#include "tools/cli/progress.h"
#include "tools/cli/recipe.h"
#include "tools/cli/task_source.h"
#include "tools/commands.h"
#include "tools/report/verify_json.h"
#include "tools/report/verify_report.h"

namespace lapidary {
namespace {

// One side of the comparison as the user names it.
struct SideOptions {
  std::string model, kv, activations = "int8", adapter;
  bool is_candidate = false;

  // `refine` holds for the candidate, and for a base that is packed too.
  KvText kv_text(const KvText& refine) const {
    KvText text;
    if (is_candidate || kv.starts_with("k")) text = refine;
    text.kv = kv;
    return text;
  }

  std::unique_ptr<Scorer> open(int n_threads, const KvText& refine) const {
    const ModelOptions options{kv_text(refine), activations, adapter, n_threads};
    return make_engine_scorer(model, options.scorer_options());
  }

  VerifyLabels::Side label(const KvText& refine) const {
    const std::unique_ptr<LapReader> lap = LapReader::open(model);
    VerifyLabels::Side side;
    side.name = std::filesystem::path(model).filename();
    side.facts = {{"Size", format_bytes(static_cast<double>(lap->file_bytes()))},
                  {"Bits per weight", fmt::format("{:.3f}", lap->bits_per_weight())},
                  {"KV cache", describe(kv_for(parse_kv(kv_text(refine)), lap->metadata()))},
                  {"Activations", activations},
                  {"Content", lap->content_hash().substr(0, 16)}};
    if (!adapter.empty()) side.facts.emplace_back("Adapter", adapter);
    return side;
  }
};

struct VerifyCommand {
  SideOptions base, candidate;
  EndpointText endpoint;  // in place of the candidate
  std::string text_file, tasks_file, html_file, junit_file;
  TextOptions text;
  Margins margins;
  int64_t limit_items = 0;
  int n_threads = 0;
  KvText kv;  // refines the packed caches of both sides
  OutputOptions out;

  VerifyResult measure_endpoint(const Events& events) const {
    const std::unique_ptr<Scorer> ours = base.open(n_threads, kv);
    VerifyResult result;
    result.margins = margins;
    result.endpoint = endpoint.compare(
        *ours, text_file.empty() ? std::string(builtin_text()) : read_text(text_file), text.context,
        events);
    judge(result);
    return result;
  }

  VerifyResult measure(const Events& events) const {
    const std::unique_ptr<Scorer> a = base.open(n_threads, kv), b = candidate.open(n_threads, kv);
    VerifyResult result;
    result.margins = margins;
    result.identical = a->identity() == b->identity();
    if (!text_file.empty())
      result.text = compare_text(*a, *b, read_text(text_file), text, events);
    else if (tasks_file.empty())
      result.text = compare_text(*a, *b, builtin_text(), text, events);
    if (!tasks_file.empty()) {
      const std::vector<TaskItem> items = load_tasks(tasks_file, limit_items, a->tokenizer());
      result.tasks =
          compare_tasks(items, score_tasks(*a, items, events), score_tasks(*b, items, events));
    }
    judge(result);
    return result;
  }

  VerifyLabels labels() const {
    VerifyLabels labels{base.label(kv), {}, text_file, tasks_file, std::string(kToolVersion)};
    if (endpoint.given())
      labels.candidate = {endpoint.url, {{"Model", endpoint.model}}};
    else
      labels.candidate = candidate.label(kv);
    if (text_file.empty() && tasks_file.empty()) labels.text_source = "built-in text";
    return labels;
  }

  void check_outputs() const {
    const std::vector<std::string> inputs{base.model,        candidate.model, base.adapter,
                                          candidate.adapter, text_file,       tasks_file};
    refuse_to_replace(html_file, inputs);
    refuse_to_replace(junit_file, inputs);
    if (!html_file.empty() && html_file == junit_file)
      fail(ErrorCode::kUsage, "--html and --junit both name {}; give each its own file", html_file);
  }

  int run(CLI::App& sub) {
    apply_recipe(sub);
    check_outputs();
    if (endpoint.given() != candidate.model.empty())
      fail(ErrorCode::kUsage, "verify needs a CANDIDATE or --endpoint URL, and not both");
    if (endpoint.given() && !tasks_file.empty())
      fail(ErrorCode::kUsage, "--tasks needs a CANDIDATE: a server is compared on text");
    VerifyResult result;
    {
      ProgressLine progress(out.quiet);
      result = endpoint.given() ? measure_endpoint(progress.events()) : measure(progress.events());
    }
    if (!html_file.empty()) write_text_atomically(html_file, verify_html(result, labels()));
    if (!junit_file.empty())
      write_text_atomically(junit_file, verify_junit(result, "lapidary verify"));
    if (out.json)
      fmt::print("{}\n", verify_json(result));
    else
      print(result);
    return verdict_exit_status(result.verdict);
  }

  void print(const VerifyResult& result) const {
    if (const auto& t = result.text) {
      fmt::print(
          "text    {} tokens, nll {:.4f} -> {:.4f}, difference {:+.4f} [{:+.4f}, {:+.4f}] nats\n",
          t->tokens, t->nll_base, t->nll_candidate, t->nll_candidate - t->nll_base, t->interval[0],
          t->interval[1]);
      fmt::print("        KLD mean {:.5f} median {:.5f} 99 % {:.4f}, same best token {:.1f} %\n",
                 t->kld_mean, t->kld_median, t->kld_p99, 100 * t->top1_agreement);
    }
    if (const auto& e = result.endpoint)
      fmt::print(
          "server  {} places, KLD mean {:.5f} [{:.5f}, {:.5f}] 99 % {:.4f}, same best token {:.1f} "
          "%, largest difference {:.4f} nats\n",
          e->positions, e->kld_mean, e->interval[0], e->interval[1], e->kld_p99,
          100 * e->top1_agreement, e->largest_difference);
    for (const auto& [name, t] : result.tasks)
      fmt::print(
          "{:12} {:5} items  {:5.1f} % -> {:5.1f} %  difference {:+.1f} [{:+.1f}, {:+.1f}] "
          "points\n",
          name, t.items, 100 * t.base, 100 * t.candidate, 100 * t.difference, 100 * t.interval[0],
          100 * t.interval[1]);
    for (const std::string& reason : result.reasons) fmt::print("- {}\n", reason);
    fmt::print("{}\n", verdict_name(result.verdict));
    if (!html_file.empty()) fmt::print("report: {}\n", html_file);
  }
};

void add_side(CLI::App& sub, SideOptions& side, const std::string& name) {
  sub.add_option(
         "--kv-" + name, side.kv,
         "KV cache of the " + name + ": off (bf16), f32 or kXvY; default: its file's choice")
      ->type_name("CODE");
  sub.add_option("--activations-" + name, side.activations, "int8 or 16bit")
      ->type_name("TYPE")
      ->capture_default_str();
  sub.add_option("--adapter-" + name, side.adapter, "LoRA adapter of the " + name)
      ->type_name("DIR");
}

// Not CLI::Range, which lets NaN through: a margin of NaN would never be exceeded.
void add_margin(CLI::App& sub, const std::string& name, double& margin, const std::string& help) {
  sub.add_option(name, margin, help)
      ->type_name("FLOAT in [0 - 1]")
      ->check([](const std::string& text) -> std::string {
        double value = 0;
        const char* end = text.data() + text.size();
        const auto parsed = std::from_chars(text.data(), end, value);
        if (parsed.ptr == end && value >= 0 && value <= 1) return "";
        return fmt::format("{} is no margin; expected a number from 0 to 1", text);
      })
      ->capture_default_str();
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto command = std::make_shared<VerifyCommand>();
  command->candidate.is_candidate = true;
  CLI::App* sub = app.add_subcommand("verify", "Paired comparison: PASS, FAIL or INCONCLUSIVE");
  sub->add_option("base", command->base.model, "The model that is trusted")
      ->required()
      ->type_name("BASE");
  sub->add_option("candidate", command->candidate.model, "The model that is judged")
      ->type_name("CANDIDATE");
  sub->add_option("--text", command->text_file,
                  "Text to predict (default without --tasks: a built-in text)")
      ->type_name("FILE");
  sub->add_option("--tasks", command->tasks_file, kTasksHelp)->type_name("FILE");
  add_endpoint_options(*sub, command->endpoint);
  add_measure_options(*sub, command->text, command->limit_items);
  add_side(*sub, command->base, "base");
  add_side(*sub, command->candidate, "candidate");
  add_kv_refinements(*sub, command->kv);
  add_margin(*sub, "--margin-nats", command->margins.nats, "Loss of NLL that is still a PASS");
  add_margin(*sub, "--margin-task", command->margins.task,
             "Loss of accuracy per task, 0.02 = 2 points");
  add_margin(*sub, "--margin-pooled", command->margins.pooled, "Loss of accuracy over all items");
  sub->add_option("--html", command->html_file, "Write a report with pictures")->type_name("FILE");
  sub->add_option("--junit", command->junit_file, "Write the verdict as JUnit XML")
      ->type_name("FILE");
  add_threads_option(*sub, command->n_threads);
  add_recipe_option(*sub);
  add_output_options(*sub, command->out);
  sub->footer(
      "Exit status: 0 PASS, 1 FAIL, 2 INCONCLUSIVE.\nExamples:\n"
      "  lapidary verify model.lap model-w4.lap --text book.txt --html report.html\n"
      "  lapidary verify model.lap tuned.lap --tasks skills.jsonl --text book.txt --json\n"
      "  lapidary verify m.lap m.lap --adapter-candidate tuned/ --kv-candidate f32\n"
      "  lapidary verify model.lap --endpoint http://127.0.0.1:8000 --endpoint-model mine\n"
      "  lapidary verify m.lap m.lap --kv-base off --kv-candidate k4v4 --text book.txt");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
