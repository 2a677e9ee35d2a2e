// All requests at once, then the times of their tokens.
#include "runtime/bench/stream_bench.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "formats/error.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

}  // namespace

StreamReport run_streams(std::shared_ptr<const Model> model, const StreamOptions& options,
                         const Events& events) {
  if (options.n_streams < 1 || options.prompt_tokens < 1 || options.new_tokens < 1)
    fail(ErrorCode::kUsage, "streams, prompt and new tokens: expected at least one of each");
  std::mutex mutex;
  std::condition_variable ended;
  std::vector<std::vector<Clock::time_point>> times(size_t(options.n_streams));
  int n_ended = 0;
  std::string error;

  const auto vocab = static_cast<uint64_t>(model->config().vocab_size);
  Engine engine(std::move(model), options.engine);
  SchedulerOptions serving = options.scheduler;
  serving.max_running = options.n_streams;
  serving.context = options.prompt_tokens + options.new_tokens;
  Scheduler scheduler(engine, serving);
  SplitMix64 random(1);
  std::vector<int32_t> prompt(size_t(options.prompt_tokens));
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < options.n_streams; ++i) {
    const size_t own =
        i == 0 ? 0
               : size_t(std::clamp<int64_t>(options.shared_tokens, 0, options.prompt_tokens - 1));
    for (size_t t = own; t < prompt.size(); ++t)
      prompt[t] = static_cast<int32_t>(random.below(vocab));
    Request request;
    request.prompt = prompt;
    request.max_tokens = options.new_tokens;
    request.sampling = options.sampling;
    request.sampling.seed += uint64_t(i);
    request.on_token = [&times, i](const TokenEvent&) {
      times[size_t(i)].push_back(Clock::now());
      return true;
    };
    request.on_finish = [&](const Finish& finish) {
      const std::lock_guard lock(mutex);
      if (finish.reason == FinishReason::kError) error = finish.error;
      ++n_ended;
      ended.notify_all();
    };
    scheduler.submit(std::move(request));
  }
  {
    std::unique_lock lock(mutex);
    while (n_ended < options.n_streams) {
      ended.wait_for(lock, std::chrono::milliseconds(100));
      events.poll();
      events.progress({"answers", uint64_t(n_ended), uint64_t(options.n_streams), 0, "streams"});
    }
    if (!error.empty()) fail(ErrorCode::kInternal, "{}", error);
  }
  scheduler.drain(std::chrono::seconds(1));  // counters are complete then

  StreamReport report;
  std::vector<double> first, gaps;
  Clock::time_point last = start;
  size_t n_tokens = 0;
  for (const auto& tokens : times) {
    first.push_back(seconds_between(start, tokens.front()));
    for (size_t t = 1; t < tokens.size(); ++t)
      gaps.push_back(seconds_between(tokens[t - 1], tokens[t]));
    last = std::max(last, tokens.back());
    n_tokens += tokens.size();
  }
  report.counters = scheduler.counters();
  const double seconds = seconds_between(start, last);
  report.tokens_per_second = static_cast<double>(n_tokens) / seconds;
  report.step_share = report.counters.step_seconds / seconds;
  report.first_median = percentile(first, 0.5);
  report.first_p99 = percentile(first, 0.99);
  report.gap_median = percentile(gaps, 0.5);
  report.gap_p99 = percentile(gaps, 0.99);
  return report;
}

}  // namespace lapidary
