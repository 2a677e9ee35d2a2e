// Options that several commands share, declared once with one wording.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/kv_options.h"
#include "runtime/verify/scorer.h"
#include "runtime/verify/text_measure.h"

namespace CLI {
class App;
}

namespace lapidary {

struct OutputOptions {
  bool json = false;   // exactly one JSON object on stdout
  bool quiet = false;  // no progress
};
void add_output_options(CLI::App& command, OutputOptions& options);
void add_threads_option(CLI::App& command, int& n_threads);

// How a model is run: --kv, --activations, --adapter, --threads.
struct ModelOptions {
  KvText kv;
  std::string activations = "int8", adapter;
  int n_threads = 0;
  EngineScorerOptions scorer_options() const;  // throws kUsage for unknown values
};
void add_model_options(CLI::App& command, ModelOptions& options);

// The KV cache: --kv, and what refines it: --kv-exact, --kv-sliding, --kv-global, --force.
void add_kv_options(CLI::App& command, KvText& text);
void add_kv_refinements(CLI::App& command, KvText& text);

// How much is measured: --context, --limit-tokens, --limit-items.
void add_measure_options(CLI::App& command, TextOptions& text, int64_t& limit_items);

ActivationType parse_activations(const std::string& text);  // "int8", "16bit"

}  // namespace lapidary
