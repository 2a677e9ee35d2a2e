// Chooses KV-cache codes layer by layer: what each code of each layer costs at the model's output,
// measured on text, against what it saves.
//
// Every global layer that owns K and V is packed alone, with each candidate code, and compared with
// the 16-bit cache: mean KL divergence of the next-token distributions, through the real cache path
// and without exact ends, so that short texts show the code. Costs are taken to add up; from 16
// bits on, the step that saves the most bytes per cost is taken until the budget or the limit
// stands. What was chosen is then measured together. Sliding layers stay in 16 bits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/events.h"
#include "runtime/kv_options.h"

namespace lapidary {

struct KvAutoOptions {
  std::optional<double> bytes_per_token;  // the cache may grow by so much per token
  std::optional<double> max_kld;          // nats per token; 0.002 when neither is given
  std::string text;                       // to measure on
  int64_t limit_tokens = 4000, context = 1024;
  int n_threads = 0;
};

struct KvTrial {
  int layer;
  KvLayerCode code;
  double kld = 0;              // of this layer alone
  double bytes_per_token = 0;  // of this layer
};

struct KvAutoReport {
  KvOptions chosen;             // one code per layer
  std::vector<KvTrial> trials;  // all that were measured
  double kld = 0;               // of the choice, measured together
  double bytes_per_token = 0;
};

// `model_path` is a .lap. Throws kUsage when no choice keeps the budget.
KvAutoReport choose_kv(const std::string& model_path, const KvAutoOptions& options,
                       const Events& events);

// Writes the .lap again with this choice in its metadata, in place.
void record_kv(const std::string& model_path, const KvOptions& chosen);

}  // namespace lapidary
