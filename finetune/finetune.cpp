// One run from options to adapter: data, plan, steps, evaluations, checkpoints, output.
#include "finetune/finetune.h"

#include <chrono>
#include <filesystem>

#include "finetune/checkpoint.h"
#include "finetune/gate.h"
#include "finetune/output_folder.h"
#include "finetune/phases.h"
#include "finetune/run_data.h"
#include "finetune/run_log.h"
#include "finetune/run_options.h"
#include "finetune/schedule.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "runtime/model.h"

namespace lapidary {
namespace {

class Run {
 public:
  Run(const FinetuneOptions& options, const Events& events)
      : options_(options),
        events_(events),
        group_(join_process_group()),
        log_(options.output, /*silent=*/!writes()) {
    if (writes()) return;
    events_.on_note = {};  // the first process speaks for all
    events_.on_progress = {};
  }

  FinetuneReport operator()() {
    report_.writes = writes();
    validate(options_);
    parse_precision(options_.precision);
    if (options_.resume && is_finished()) return report_;
    if (writes() && options_.resume) remove_left_overs(options_.output);
    model_ = Model::load(options_.model);
    if (!model_->has_tokenizer())
      fail(ErrorCode::kBadData,
           "{}: has no tokenizer; convert the model again from a folder with "
           "tokenizer.json",
           options_.model);
    data_ = std::make_unique<RunData>(options_, model_, group_ ? group_->size() : 1, events_);
    start();
    train();
    if (writes()) write();
    return report_;
  }

 private:
  bool writes() const { return !group_ || group_->rank() == 0; }

  // A process that died after its last rename has nothing left to do.
  bool is_finished() {
    if (is_unfinished_run(options_.output) ||
        !path_exists(options_.output + "/adapter_config.json"))
      return false;
    events_.note(options_.output + ": is finished already; nothing to resume");
    report_ = report_of_log(read_text(options_.output + "/log.jsonl"));
    report_.writes = writes();
    return true;
  }

  // All processes must train the same; also, none writes before all have looked at the folder.
  void agree() {
    if (!group_) return;
    std::string all;
    for (const auto& [name, value] : identity()) all += name + "=" + value + "\n";
    const auto mark = static_cast<double>(
        hash_bytes({reinterpret_cast<const uint8_t*>(all.data()), all.size()}).low >> 32);
    double sum[] = {mark};
    group_->sum(std::span<double>(sum));
    if (sum[0] != mark * group_->size())
      fail(ErrorCode::kUsage,
           "process {} of {} has another model, other data or other options than the others",
           group_->rank() + 1, group_->size());
  }

  void start() {
    agree();
    phases_ = std::make_unique<Phases>(options_, model_, data_->n_steps(), group_.get());
    report_.trained_parameters = phases_->trainer().trained_parameters();
    events_.note(fmt::format("{} trained parameters, {} steps", report_.trained_parameters,
                             data_->n_steps()));
    gate_ = std::make_unique<Gate>(data_->make_gate());
    eval_steps_ = options_.eval_steps > 0 ? options_.eval_steps
                                          : std::max<int64_t>(1, (data_->n_steps() + 9) / 10);
    const bool continues = options_.resume && has_checkpoint(checkpoint_folder());
    if (options_.resume && !continues && !is_unfinished_run(options_.output))
      fail(ErrorCode::kNotFound, "{}: no run to resume there; start it without --resume",
           options_.output);
    if (!gate_->empty() && writes()) {
      // A resumed run measures its start again: it must be compared with the same.
      const Evaluation first = gate_->start(phases_->trainer());
      if (!continues) log_.keep(first);
    }
    if (continues) resume();
  }

  void resume() {
    Checkpoint c = read_checkpoint(checkpoint_folder(), identity(), events_);
    saved_steps_ = c.trainer.steps_done;
    if (saved_steps_ > data_->n_steps())
      fail(ErrorCode::kBadData, "{}: {} steps are done, this run has {}", checkpoint_folder(),
           saved_steps_, data_->n_steps());
    phases_->enter(saved_steps_, events_);
    phases_->trainer().restore(c.trainer);
    for (const Evaluation& e : evaluations_of_log(c.log)) judge(e);
    best_ = std::move(c.best);
    log_.restore(std::move(c.log), std::move(c.events));
    report_.losses = std::move(c.losses);
    report_.tokens = c.tokens;
    report_.general_tokens = c.general_tokens;
    events_.note(fmt::format("continuing after step {}", saved_steps_));
  }

  void train() {
    const auto start = std::chrono::steady_clock::now();
    const int64_t tokens_before = report_.tokens;
    const auto rate = [&] {
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      return static_cast<double>(report_.tokens - tokens_before) / std::max(seconds.count(), 1e-9);
    };
    try {
      while (steps_done() < data_->n_steps() && !report_.stopped_early) {
        events_.poll();
        step(rate);
        evaluate_if_due();
        const bool due =
            options_.checkpoint_steps > 0 && steps_done() % options_.checkpoint_steps == 0;
        if (due && steps_done() < data_->n_steps()) save();
      }
    } catch (const Error& e) {
      if (steps_done() == 0 || steps_done() == data_->n_steps()) throw;
      keep_what_is_done(e);
    }
    report_.tokens_per_second = rate();
    report_.steps = steps_done();
    report_.first_loss = report_.losses.front();
    report_.final_loss = report_.losses.back();
  }

  template <class Rate>
  void step(const Rate& rate) {
    const int64_t i = steps_done(), total = data_->n_steps();
    phases_->enter(i, events_);
    const PlannedStep& planned = data_->plan()[static_cast<size_t>(i)];
    const double learning_rate = learning_rate_at(
        parse_schedule(options_.schedule), options_.learning_rate, i, options_.warmup_steps, total);
    const StepResult result = phases_->trainer().step(data_->rows(planned), learning_rate);
    report_.tokens += planned.tokens;
    report_.general_tokens += planned.general_tokens;
    report_.losses.push_back(result.loss);
    const double tokens_per_second = rate();
    log_.add({i + 1, result.loss, result.gradient_norm, learning_rate,
              options_.kl_to_base > 0 ? result.kl : -1, report_.tokens, report_.general_tokens},
             tokens_per_second);
    events_.progress({"steps", static_cast<uint64_t>(i + 1), static_cast<uint64_t>(total), 0,
                      fmt::format("loss {:.4f}  {:.0f} tokens/s  {:.2f} GB", result.loss,
                                  tokens_per_second, static_cast<double>(resident_bytes()) / 1e9)});
  }

  void evaluate_if_due() {
    if (gate_->empty()) return;
    if (steps_done() % eval_steps_ != 0 && steps_done() != data_->n_steps()) return;
    double decisions[] = {0, 0};  // to keep, to stop: the first process decides for all
    if (writes()) {
      const Evaluation e = gate_->evaluate(phases_->trainer(), steps_done());
      log_.add(e);
      decisions[0] = judge(e);
      decisions[1] = verdict_.should_stop();
      events_.note(describe(e));
    }
    if (group_) group_->sum(std::span<double>(decisions));
    if (decisions[0] > 0) best_ = phases_->trainer().adapter().modules;
    report_.stopped_early = decisions[1] > 0;
  }

  // True when this evaluation's adapter is the one to keep. Before merge-aware training begins, no
  // adapter is what will be merged.
  bool judge(const Evaluation& e) {
    const bool keep = verdict_.take(e, /*eligible=*/phases_->is_last(e.step));
    report_.kept_step = verdict_.step();
    return keep;
  }

  // Whatever went wrong, the steps that are done need not be done again.
  [[noreturn]] void keep_what_is_done(const Error& e) {
    if (steps_done() > saved_steps_ && writes()) {
      try {
        save();
      } catch (const Error&) {  // a full disk, most likely; an older checkpoint may stand
      }
    }
    if (e.code() == ErrorCode::kInterrupted)
      fail(e.code(), "interrupted after step {} of {}; continue with --resume", steps_done(),
           data_->n_steps());
    if (saved_steps_ == 0) throw e;
    fail(e.code(), "{}; a checkpoint of step {} stands, continue with --resume", e.what(),
         saved_steps_);
  }

  void write() {
    RunOutput output;
    output.adapter = phases_->trainer().adapter();
    if (!gate_->empty() && !best_.empty() && report_.kept_step != report_.steps) {
      output.adapter.modules = best_;
      phases_->load(best_);
      events_.note(fmt::format("the adapter of step {} is kept", report_.kept_step));
    }
    if (report_.stopped_early && best_.empty())
      events_.note("no evaluation passed the gate; the last adapter is written");
    if (report_.kept_step == 0) report_.kept_step = report_.steps;
    output.log = log_.text();
    output.events = log_.events();
    output.recipe = options_.recipe;
    output.vocab_size = model_->config().vocab_size;
    output.probe_ids = model_->tokenizer().encode(kProbeText, {.add_special = true});
    output.probe_logits = phases_->trainer().logits(output.probe_ids);
    const auto kept = static_cast<size_t>(kProbePositions * output.vocab_size);
    if (output.probe_logits.size() > kept)
      output.probe_logits.erase(output.probe_logits.begin(),
                                output.probe_logits.end() - static_cast<int64_t>(kept));
    write_output(options_.output, /*overwrite=*/true, output);
  }

  int64_t steps_done() const { return static_cast<int64_t>(report_.losses.size()); }
  std::string checkpoint_folder() const { return options_.output + "/checkpoint"; }

  void save() {
    if (!writes()) return;
    Checkpoint c{phases_->trainer().state(),
                 best_,
                 identity(),
                 log_.text(),
                 log_.events(),
                 report_.losses,
                 report_.tokens,
                 report_.general_tokens};
    write_checkpoint(checkpoint_folder(), c, options_.checkpoint_keep);
    saved_steps_ = steps_done();
  }

  std::map<std::string, std::string> identity() const {
    std::map<std::string, std::string> identity = identity_of(options_);
    identity.merge(data_->identity());
    identity["--precision"] =
        parse_precision(options_.precision) == Precision::kBFloat16 ? "bf16" : "f32";
    identity["model"] = model_->file().content_hash();
    return identity;
  }

  const FinetuneOptions& options_;
  Events events_;
  std::unique_ptr<ProcessGroup> group_;  // null: alone
  std::shared_ptr<const Model> model_;
  std::unique_ptr<RunData> data_;
  std::unique_ptr<Phases> phases_;
  std::unique_ptr<Gate> gate_;
  BestSoFar verdict_;
  std::vector<LoraModule> best_;
  FinetuneReport report_;
  RunLog log_;
  int64_t eval_steps_ = 0, saved_steps_ = 0;  // saved: in the last checkpoint
};

}  // namespace

FinetuneReport finetune(const FinetuneOptions& options, const Events& events) {
  return Run(options, events)();
}

}  // namespace lapidary
