// How fast many answers at once are: a scheduler fed with equal requests of random tokens.
//
// Beside the sum of all tokens stands what a reader feels: the time to the first token and between
// tokens, median and 99th percentile over all answers.
#pragma once

#include <memory>

#include "formats/events.h"
#include "runtime/scheduler/scheduler.h"

namespace lapidary {

struct StreamOptions {
  int n_streams = 16;
  int64_t prompt_tokens = 64, new_tokens = 64;
  int64_t shared_tokens = 0;  // of the prompts' beginning, the same in all
  EngineOptions engine = {};
  SchedulerOptions scheduler = {};  // context and max_running are set to what the streams need
  SamplingOptions sampling = {};
};

struct StreamReport {
  double tokens_per_second = 0;  // new tokens of all, from the first request to the last token
  double step_share = 0;         // of that time, inside Engine::step and the choice of tokens
  double first_median = 0, first_p99 = 0;  // seconds from request to first token
  double gap_median = 0, gap_p99 = 0;      // seconds between tokens
  SchedulerCounters counters;
};

// Throws as Scheduler and Engine do, and kInternal when an answer fails.
StreamReport run_streams(std::shared_ptr<const Model> model, const StreamOptions& options,
                         const Events& events);

}  // namespace lapidary
