// The caller's thread reads, renders and writes; the scheduler's computes.
#include "tools/cli/batch_run.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/error.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "tools/cli/progress.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kPrefixBytes = uint64_t{1} << 30;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Tokens of requests.
class Renderer {
 public:
  Renderer(const Model& model, const BatchRun& run) : model_(model), run_(run) {
    if (run.raw) return;
    const std::string& source = model.file().metadata().chat_template;
    if (source.empty())
      fail(ErrorCode::kUsage, "this model has no chat template; use --raw to give it plain text");
    template_.emplace(source);
  }

  std::vector<int32_t> tokens(const BatchRequest& request) const {
    const Tokenizer& tokenizer = model_.tokenizer();
    const ModelConfig& config = model_.config();
    if (!template_) {
      if (request.prompt.empty() && !request.messages.empty())
        fail(ErrorCode::kUsage, "messages need the chat template; drop --raw");
      std::vector<int32_t> ids = tokenizer.encode(request.prompt);
      if (config.bos_id >= 0 && (ids.empty() || ids.front() != config.bos_id))
        ids.insert(ids.begin(), config.bos_id);
      return ids;
    }
    Json messages = Json::array();
    if (request.messages.empty())
      messages.push_back(Json{{"role", "user"}, {"content", request.prompt}});
    else
      messages = Json::parse(request.messages);
    if (!run_.system.empty())
      messages.insert(messages.begin(), Json{{"role", "system"}, {"content", run_.system}});
    ChatRequest chat;
    chat.messages_json = dump(messages);
    chat.tools_json = run_.tools_json;
    const auto piece = [&](int32_t id) {
      return id < 0 ? std::string() : std::string(tokenizer.piece(id));
    };
    return tokenizer.encode(template_->render(
        chat, piece(config.bos_id), piece(config.eos_ids.empty() ? -1 : config.eos_ids.front())));
  }

 private:
  const Model& model_;
  const BatchRun& run_;
  std::optional<ChatTemplate> template_;
};

// An answer on its way; its functions run on the scheduler's thread.
struct Job {
  Job(std::string name, const Tokenizer& tokenizer)
      : id(std::move(name)), decoder(tokenizer, false) {}
  std::string id;
  StreamDecoder decoder;
  std::string text;
  Finish finish;
};

Json to_json(const Job& job) {
  Json json{{"id", job.id}};
  if (job.finish.reason == FinishReason::kError) {
    json["error"] = job.finish.error;
    return json;
  }
  json["text"] = job.text;
  json["finish_reason"] = to_string(job.finish.reason);
  json["prompt_tokens"] = job.finish.prompt_tokens;
  json["cached_tokens"] = job.finish.cached_tokens;
  json["new_tokens"] = job.finish.new_tokens;
  return json;
}

// Jobs under way and those that have ended but are not written yet.
class Jobs {
 public:
  explicit Jobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void connect(Request& request, const std::string& id) {
    auto job = std::make_shared<Job>(id, tokenizer_);
    request.on_token = [job, stops = request.stop_ids](const TokenEvent& event) {
      if (std::find(stops.begin(), stops.end(), event.token) == stops.end())
        job->text += job->decoder.push(event.token);
      return true;
    };
    request.on_finish = [this, job](const Finish& finish) {
      job->text += job->decoder.finish();
      job->finish = finish;
      const std::lock_guard lock(mutex_);
      ended_.push_back(job);
      changed_.notify_one();
    };
  }
  // The next that has ended, or null after a moment.
  std::shared_ptr<Job> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(100), [&] { return !ended_.empty(); });
    if (ended_.empty()) return nullptr;
    std::shared_ptr<Job> job = ended_.front();
    ended_.pop_front();
    return job;
  }

 private:
  const Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> ended_;
};

}  // namespace

void add_batch_options(CLI::App& command, BatchOptions& options) {
  command
      .add_option("--batch", options.input,
                  "Answer every line: {\"prompt\" or \"messages\", \"id\", \"max_tokens\", "
                  "\"temperature\", \"seed\", ...}")
      ->type_name("IN.jsonl");
  command
      .add_option("-o,--output", options.output,
                  "Answers of --batch, as they come; what it holds is not answered again")
      ->type_name("OUT.jsonl");
  command.add_option("--parallel", options.parallel, "Answers of --batch at once")
      ->type_name("N")
      ->check(CLI::Range(1, EngineOptions().max_logits))
      ->capture_default_str();
}

void print_summary(const BatchRun& run, const BatchSummary& done, const OutputOptions& out) {
  if (out.json) {
    const Json json{
        {"requests", done.requests},           {"finished_before", done.finished_before},
        {"answered", done.answered},           {"failed", done.failed},
        {"prompt_tokens", done.prompt_tokens}, {"cached_tokens", done.cached_tokens},
        {"new_tokens", done.new_tokens},       {"seconds", done.seconds}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("{}: {} answers ({} from before, {} failed), {} new tokens in {}\n",
               run.files.output, done.finished_before + done.answered, done.finished_before,
               done.failed, done.new_tokens, format_duration(done.seconds));
  }
}

BatchSummary run_batch(Engine& engine, const BatchRun& run, const Events& events) {
  std::error_code ignored;
  if (std::filesystem::equivalent(run.files.input, run.files.output, ignored))
    fail(ErrorCode::kUsage, "--batch and -o are one file: answers would follow the requests");
  const auto start = std::chrono::steady_clock::now();
  const Model& model = engine.model();
  const Renderer renderer(model, run);
  BatchSummary summary;
  summary.requests = BatchInput::check(run.files.input, run.defaults);
  BatchOutput output(run.files.output);
  BatchInput input(run.files.input, run.defaults);
  Jobs jobs(model.tokenizer());
  SchedulerOptions serving = run.scheduler;
  serving.max_running = run.files.parallel;
  serving.max_waiting = 2 * run.files.parallel;
  serving.prefix_bytes = kPrefixBytes;
  Scheduler scheduler(engine, serving);

  const auto write = [&](const Job& job) {
    output.append(dump(to_json(job)));
    ++(job.finish.reason == FinishReason::kError ? summary.failed : summary.answered);
    summary.prompt_tokens += job.finish.prompt_tokens;
    summary.cached_tokens += job.finish.cached_tokens;
    summary.new_tokens += job.finish.new_tokens;
  };
  const auto submit = [&](const BatchRequest& asked) {
    try {
      Request request;
      request.prompt = renderer.tokens(asked);
      request.max_tokens = asked.max_tokens;
      request.sampling = asked.sampling;
      request.stop_ids = model.config().eos_ids;
      request.constraint = run.constraint;
      request.adapter = run.adapter;
      jobs.connect(request, asked.id);
      scheduler.submit(std::move(request));
      return true;
    } catch (const Error& e) {  // this request's own fault, such as a prompt that is too long
      Job job(asked.id, model.tokenizer());
      job.finish.reason = FinishReason::kError;
      job.finish.error = e.what();
      write(job);
      return false;
    }
  };

  // Enough wait that the scheduler never does, few enough that a long file is not held in memory.
  const int64_t most = 2 * int64_t{run.files.parallel};
  int64_t n_open = 0;
  BatchRequest request;
  for (bool more = true; more || n_open > 0;) {
    while (more && n_open < most && (more = input.next(request))) {
      if (output.finished().contains(request.id))
        ++summary.finished_before;
      else
        n_open += submit(request);
    }
    if (events.cancelled && events.cancelled->load()) {
      output.sync();
      fail(ErrorCode::kInterrupted, "interrupted; '{}' holds {} answers, the same command goes on",
           run.files.output, summary.finished_before + summary.answered);
    }
    if (n_open == 0) continue;
    const std::shared_ptr<Job> job = jobs.wait();
    if (!job) continue;
    --n_open;
    write(*job);
    const int64_t n_done = summary.finished_before + summary.answered + summary.failed;
    events.progress({"answers", uint64_t(n_done), uint64_t(summary.requests), 0, "batch"});
  }
  output.sync();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace lapidary
