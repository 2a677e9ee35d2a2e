// How fast a model runs here: tokens per second, beside what the machine could do at most.
//
// Like llama-bench: random token ids, logits of the last prompt token only, generation one token at
// a time. Each repetition is timed between two measurements of the machine's bandwidth and integer
// peak, and judged: one that others disturbed is measured again, and what could not be measured
// cleanly says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/events.h"
#include "runtime/bench/bench_tests.h"
#include "runtime/engine.h"

namespace lapidary {

struct BenchOptions {
  std::vector<BenchTest> tests;
  int repetitions = 5;  // clean ones wanted; three times as many are tried at most
  EngineOptions engine;
  KvOptions kv;
  const Adapter* adapter = nullptr;  // null: the base model
};

// Medians over the repetitions that counted: the clean ones, or all when none was clean.
struct BenchResult {
  BenchTest test;
  double tokens_per_second = 0, slowest = 0, fastest = 0;
  double bytes_per_token = 0;           // read: weights with scales, KV cache, embedding rows
  double multiply_adds_per_token = 0;   // of linear layers whose result somebody needs
  double share_of_bandwidth = 0;        // of read_gbps, repetition by repetition
  double share_of_int8 = 0;             // of int8_tops; 0 where that is not known
  double read_gbps = 0, int8_tops = 0;  // measured beside the repetitions
  int n_clean = 0, n_disturbed = 0;
  bool disturbed = false;  // fewer clean repetitions than wanted
};

struct BenchReport {
  std::string cpu, isa;
  int n_threads = 0;
  double read_gbps = 0, int8_tops = 0;  // the best seen
  std::vector<BenchResult> results;
};

// Throws kUsage for tests that the options cannot run, and as the engine does.
BenchReport run_bench(std::shared_ptr<const Model> model, const BenchOptions& options,
                      const Events& events);

}  // namespace lapidary
