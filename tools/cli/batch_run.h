// `run --batch`: every request of a file, many at once, answers written as they come.
#pragma once

#include <memory>
#include <string>

#include "formats/events.h"
#include "runtime/scheduler/scheduler.h"
#include "tools/cli/batch_file.h"
#include "tools/cli/command_options.h"

namespace lapidary {

struct BatchOptions {
  std::string input, output;
  int parallel = 16;
};
void add_batch_options(CLI::App& command, BatchOptions& options);

struct BatchRun {
  BatchOptions files;
  BatchDefaults defaults;
  bool raw = false;  // prompts are plain text behind BOS; no template
  std::string system, tools_json;
  std::shared_ptr<const Adapter> adapter;
  std::shared_ptr<const Constraint> constraint;
  SchedulerOptions scheduler;  // context, KV cache, guesses; the rest follows from the options
};

struct BatchSummary {
  int64_t requests = 0, finished_before = 0;
  int64_t answered = 0, failed = 0;  // now; failed: their lines say why
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;
  double seconds = 0;
};

// The whole input is checked before the first answer is computed. Throws as BatchInput and
// BatchOutput, kUsage when both are one file, and kInterrupted, after which the same call goes on.
BatchSummary run_batch(Engine& engine, const BatchRun& run, const Events& events);

void print_summary(const BatchRun& run, const BatchSummary& summary, const OutputOptions& out);

}  // namespace lapidary
