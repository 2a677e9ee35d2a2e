// merge: an adapter into its bf16 master, rounded once from float32 W + s B A; optionally straight
// to a packed code. Works without LibTorch.
#pragma once

#include <optional>
#include <string>

#include "quantize/quantize.h"

namespace lapidary {

struct MergeOptions {
  std::optional<Code> weights;  // empty: keep the master's float codes
  int n_threads = 0;
  std::string recipe = "{}";
};
struct MergeReport {
  uint64_t file_bytes = 0;
  int64_t merged_modules = 0;
  std::string content_hash;
  double seconds = 0;
};
// Throws kBadData when the adapter's base is neither `base` nor what `base` was recorded to be made
// from.
MergeReport merge(const std::string& base, const std::string& adapter_folder,
                  const std::string& output, const MergeOptions& options, const Events& events);

}  // namespace lapidary
