// Which results a recomputed layer keeps, so that its second run need not make them again.
//
// Recomputing a whole layer costs one forward pass more. Its dearest parts are products with wide
// inputs, whose outputs are small beside them: an output value saves as many multiplications as the
// input is wide. Within a bounded memory, those that save most per byte are kept.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/model_config.h"

namespace lapidary {

// Parts of a layer whose output can be kept; kAttention is what the output projection reads.
enum class LayerPart : uint8_t {
  kQ,
  kK,
  kV,
  kAttention,
  kO,
  kGate,
  kUp,
  kDown,
  kPleGate,
  kPleProjection,
};
inline constexpr int kLayerParts = 10;

inline constexpr int64_t kKeptBytes = int64_t{256} << 20;  // the default bound, of one row

struct KeptPlan {
  std::vector<uint32_t> parts;  // per layer, bit p for part p
  int64_t bytes = 0;            // of all that is kept
};

// For a row of n_tokens. Layers behind the last one with K and V of its own run on n_picked of
// them, that one from its queries on. The choice depends on these numbers alone.
KeptPlan plan_kept(const ModelConfig& config, int64_t n_tokens, int64_t n_picked,
                   int64_t bytes_per_value, int64_t most_bytes);

}  // namespace lapidary
