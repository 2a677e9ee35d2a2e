// Prometheus's text format: HELP, TYPE, then one line per series.
#include "runtime/server/metrics.h"

#include <fmt/format.h>

#include <iterator>

namespace lapidary::server {
namespace {

// Models' names are the operator's, but a quote in one must not break the page.
std::string label(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

struct SchedulerSeries {
  const char *name, *type, *help;
  double (*value)(const SchedulerCounters&);
};

constexpr SchedulerSeries kSchedulerSeries[] = {
    {"lapidary_answers_running", "gauge", "Answers in the batch",
     [](const SchedulerCounters& c) { return double(c.running); }},
    {"lapidary_answers_waiting", "gauge", "Requests behind them",
     [](const SchedulerCounters& c) { return double(c.waiting); }},
    {"lapidary_kv_bytes", "gauge", "Memory of sequences and cached prefixes",
     [](const SchedulerCounters& c) { return double(c.kv_bytes_used); }},
    {"lapidary_prefix_bytes", "gauge", "Of these, prefixes that nobody runs",
     [](const SchedulerCounters& c) { return double(c.prefix_bytes_used); }},
    {"lapidary_submitted_total", "counter", "Prompts submitted",
     [](const SchedulerCounters& c) { return double(c.requests); }},
    {"lapidary_refused_total", "counter", "Refused: the queue was full",
     [](const SchedulerCounters& c) { return double(c.refused); }},
    {"lapidary_cancelled_total", "counter", "Ended by their client's leaving",
     [](const SchedulerCounters& c) { return double(c.cancelled); }},
    {"lapidary_failed_total", "counter", "Ended by an error",
     [](const SchedulerCounters& c) { return double(c.failed); }},
    {"lapidary_prompt_tokens_total", "counter", "Tokens of prompts",
     [](const SchedulerCounters& c) { return double(c.prompt_tokens); }},
    {"lapidary_cached_tokens_total", "counter", "Of these, found in the prefix cache",
     [](const SchedulerCounters& c) { return double(c.cached_tokens); }},
    {"lapidary_new_tokens_total", "counter", "Tokens of answers",
     [](const SchedulerCounters& c) { return double(c.new_tokens); }},
    {"lapidary_drafted_tokens_total", "counter", "Tokens guessed ahead",
     [](const SchedulerCounters& c) { return double(c.drafted_tokens); }},
    {"lapidary_accepted_tokens_total", "counter", "Of these, right",
     [](const SchedulerCounters& c) { return double(c.accepted_tokens); }},
    {"lapidary_steps_total", "counter", "Batches computed",
     [](const SchedulerCounters& c) { return double(c.steps); }},
    {"lapidary_step_seconds_total", "counter", "Time in them",
     [](const SchedulerCounters& c) { return c.step_seconds; }},
};

void append_header(const char* name, const char* type, const char* help, std::string& out) {
  fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace

void Histogram::observe(double seconds) {
  size_t i = 0;
  while (i < kBounds.size() && seconds > kBounds[i]) ++i;
  counts_[i].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(seconds, std::memory_order_relaxed);
}

void Histogram::append(const char* name, const char* help, std::string& out) const {
  append_header(name, "histogram", help, out);
  const auto to = std::back_inserter(out);
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i].load(std::memory_order_relaxed);
    const std::string bound = i < kBounds.size() ? fmt::format("{}", kBounds[i]) : "+Inf";
    fmt::format_to(to, "{}_bucket{{le=\"{}\"}} {}\n", name, bound, count);
  }
  fmt::format_to(to, "{}_sum {}\n{}_count {}\n", name, sum_.load(std::memory_order_relaxed), name,
                 count);
}

void Metrics::count_request(const std::string& path, int status) {
  std::lock_guard lock(mutex_);
  ++requests_[{path, status}];
}

std::string Metrics::text(const ModelDirectory& models) const {
  std::string out;
  const auto to = std::back_inserter(out);
  append_header("lapidary_requests_total", "counter", "HTTP requests by path and status", out);
  {
    std::lock_guard lock(mutex_);
    for (const auto& [series, count] : requests_)
      fmt::format_to(to, "lapidary_requests_total{{path=\"{}\",status=\"{}\"}} {}\n", series.first,
                     series.second, count);
  }
  time_to_first_token.append("lapidary_time_to_first_token_seconds",
                             "From a request to its first token", out);
  time_between_tokens.append("lapidary_time_between_tokens_seconds", "Between tokens of one answer",
                             out);
  answer_seconds.append("lapidary_answer_seconds", "From a request to its answer's end", out);
  const auto counters = models.counters();
  for (const SchedulerSeries& series : kSchedulerSeries) {
    append_header(series.name, series.type, series.help, out);
    for (const auto& [model, values] : counters)
      fmt::format_to(to, "{}{{model=\"{}\"}} {}\n", series.name, label(model),
                     series.value(values));
  }
  return out;
}

}  // namespace lapidary::server
