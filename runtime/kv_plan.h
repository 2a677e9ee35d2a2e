// How large a KV cache is: pages and bytes per layer, from the description alone.
//
// The one place where sizes are computed: Sequence reserves by it and `inspect --context` prints
// it, without a model in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/kv_page.h"
#include "runtime/kv_options.h"

namespace lapidary {

// One layer that owns K and V. Pages hold kPageTokens tokens. Exact pages lie in slots
// [0, sink_pages) and a ring behind them, packed ones in a ring of their own that starts at page
// sink_pages; a ring as long as the context is a plain run.
struct KvLayerPlan {
  int layer = 0;
  KvLayerCode code;
  ExactEnds ends;
  bool sliding = false;
  int window = 0, n_kv_heads = 0, head_dim = 0;

  uint64_t exact_row_bytes = 0;  // one token, all heads, unpacked; V alone in V-only layers
  uint64_t plain_row_bytes = 0;  // one token, all heads, K and V in 16 bits: for comparison
  // Packed pages of one head. V-only layers have no key page, and keys read their value page.
  KvPageGeometry key_page{}, value_page{};
  int64_t sink_pages = 0, ring_pages = 0, packed_pages = 0;

  int64_t exact_pages() const { return sink_pages + ring_pages; }
  int64_t exact_slot(int64_t page) const {
    return page < sink_pages ? page : sink_pages + (page - sink_pages) % ring_pages;
  }
  int64_t packed_slot(int64_t page) const { return (page - sink_pages) % packed_pages; }
  uint64_t packed_page_bytes() const {  // all heads
    return uint64_t(n_kv_heads) * uint64_t(key_page.bytes + value_page.bytes);
  }
  uint64_t reserved_bytes() const;
  // Bytes that carry something after n_tokens: what the next queries and a rollback of
  // kRollbackTokens can read. Slots for the tokens of a step come on top in reserved_bytes().
  uint64_t held_bytes(int64_t n_tokens) const;
  uint64_t plain_bytes(int64_t n_tokens) const;  // the same in a plain 16-bit cache
  // Growth per token once sink, tail and window are full; 0 for sliding layers.
  double bytes_per_token() const;
};

struct KvPlan {
  std::vector<KvLayerPlan> layers;  // those that own K and V, ascending
  uint64_t reserved_bytes = 0;
};

// Throws kUsage for a capacity outside 1..2^31-1 and for options that do not fit (check_kv),
// kOutOfMemory when the sizes are beyond any machine.
KvPlan plan_kv(const ModelConfig& config, const KvOptions& options, int64_t capacity,
               int max_batch_tokens);

}  // namespace lapidary
