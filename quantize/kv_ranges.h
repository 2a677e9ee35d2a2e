// How large K and V get in the cache, layer by layer: what a runtime with one scale per layer
// needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/events.h"
#include "formats/kv_range.h"

namespace lapidary {

struct KvRangeOptions {
  std::string text;         // plain, or JSON lines of conversations; empty: the calibration text
  int64_t n_tokens = 8192;  // of it at most, in windows of 256 spread over it
  int n_threads = 0;
};

// Of every layer; layers that share another's K and V have that one's. K as it is cached, after
// norm and RoPE. `model_path` is a .lap. Throws kBadData for a model without tokenizer and for
// texts of fewer than two tokens.
std::vector<KvRange> measure_kv_ranges(const std::string& model_path, const KvRangeOptions& options,
                                       const Events& events);

}  // namespace lapidary
