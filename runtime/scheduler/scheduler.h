// Many answers from one engine at once: a thread that forms each step's batch from all requests.
//
// Tokens of running answers go first, then chunks of prompts in turn among accounts, within the
// engine's max_batch_tokens. A request is admitted when the pages of its whole length (prompt and
// max_tokens, cut to the context) fit the memory given. Prompts begin with the longest prefix that
// an earlier request left in the prefix cache. All of it is exact: an answer has the same tokens
// whoever else is served, because an engine's logits do not depend on the batch.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "runtime/assistant.h"
#include "runtime/engine.h"
#include "runtime/scheduler/request.h"

namespace lapidary {

struct SchedulerOptions {
  int64_t context = 4096;     // tokens of prompt and answer; a longer prompt is refused
  int max_running = 16;       // answers in one batch
  int max_waiting = 256;      // requests behind them; more are refused
  uint64_t kv_bytes = 0;      // memory for sequences and cached prefixes; 0: what max_running need
  uint64_t prefix_bytes = 0;  // of these, at most for prefixes nobody runs; 0: no prefix cache
  int draft_tokens = 0;       // most tokens of an answer guessed ahead; 0: none
  // Who guesses, of the same engine, which is then the scheduler's too; null: the text so far is
  // looked up.
  Assistant* assistant = nullptr;
  KvOptions kv = {};
};

// A snapshot for /metrics and logs; counters since the start.
struct SchedulerCounters {
  int64_t running = 0, waiting = 0;
  uint64_t kv_bytes_used = 0, prefix_bytes_used = 0;
  uint64_t requests = 0, refused = 0, cancelled = 0, failed = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;
  uint64_t drafted_tokens = 0, accepted_tokens = 0;
  uint64_t steps = 0;
  double step_seconds = 0;
};

using RequestId = uint64_t;

class Scheduler {
 public:
  // Borrows the engine, which only the scheduler's thread uses from now on.
  Scheduler(Engine& engine, const SchedulerOptions& options);
  ~Scheduler();  // cancels what runs

  // Thread-safe. Throws kUsage for a request that can never run (an empty or too long prompt, an
  // id outside the vocabulary, sampling options out of range), kBusy when the queue is full or
  // drain() was called. After a throw nothing is called back.
  RequestId submit(Request request);
  // Thread-safe; on_finish(kCancelled) follows unless the request has ended. Unknown ids are
  // ignored.
  void cancel(RequestId id);
  // Refuses new requests and waits until the others have ended, or for `limit`; false: some are
  // left.
  bool drain(std::chrono::milliseconds limit);
  SchedulerCounters counters() const;
  const SchedulerOptions& options() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
