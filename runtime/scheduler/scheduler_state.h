// What a scheduler holds. Other threads touch what `mutex` guards: the queue, wishes to cancel,
// counters. Everything else belongs to the scheduler's thread (serve.cpp), which holds the mutex
// neither while it computes nor while it calls a request's functions.
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <span>
#include <thread>

#include "runtime/scheduler/answer.h"
#include "runtime/scheduler/prefix_cache.h"
#include "runtime/scheduler/scheduler.h"
#include "runtime/scheduler/step_pace.h"
#include "runtime/scheduler/turn_queue.h"

namespace lapidary {

struct Scheduler::State {
  State(Engine& e, const SchedulerOptions& o);
  ~State();

  void check(const Request& request) const;
  uint64_t kv_bytes_of(int64_t capacity) const;

  // The thread's own.
  void serve();
  bool wait_for_work();  // false: close
  void retire();
  void admit();
  void step();
  int64_t guesses_of_step() const;
  int64_t add_prompts(std::vector<Answer*>& answers, std::vector<BatchItem>& batch);
  bool begin_prompt(Answer& answer);
  void keep_pages(Answer& answer);
  void run_step(std::span<Answer* const> answers, std::span<const BatchItem> batch);
  std::vector<Answer*> prompts_in_turn();
  void end(std::unique_ptr<Answer> answer, FinishReason reason);

  Engine& engine;
  SchedulerOptions options;
  uint64_t kv_bytes;  // what sequences may take

  mutable std::mutex mutex;
  std::condition_variable wake, idle;
  TurnQueue waiting;
  std::set<RequestId> cancelled;
  RequestId last_id = 0;
  bool draining = false, closing = false;
  SchedulerCounters counters;

  std::vector<std::unique_ptr<Answer>> running;
  StepPace pace;
  PrefixCache prefixes;
  uint64_t kv_bytes_used = 0, turn = 0;
  std::thread thread;
};

}  // namespace lapidary
