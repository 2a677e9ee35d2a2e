// What a session file holds of a sequence, as pieces of its memory: per layer the packed pages that
// queries can still reach, then the exact tokens, page by page and head by head, K before V.
#include <algorithm>

#include "formats/error.h"
#include "runtime/kv_cache.h"

namespace lapidary {
namespace {

// The first token that a query `back` tokens before n_tokens sees.
int64_t first_seen(const KvLayerPlan& plan, int64_t n_tokens) {
  const int64_t query = std::max<int64_t>(0, n_tokens - kRollbackTokens);
  return plan.sliding ? std::max<int64_t>(0, query - plan.window + 1) : 0;
}

}  // namespace

std::vector<std::span<std::byte>> Sequence::held_pieces(int64_t n_tokens) const {
  LAPIDARY_CHECK(n_tokens >= 0 && n_tokens <= capacity_);
  std::vector<std::span<std::byte>> pieces;
  if (n_tokens == 0) return pieces;
  for (const LayerCache& cache : layers_) {
    if (!cache.owned()) continue;
    const KvLayerPlan& plan = cache.plan;
    int64_t exact_from = first_seen(plan, n_tokens);
    if (plan.code.packed()) {
      add_packed_pieces(cache, n_tokens, pieces);
      add_exact_pieces(cache, 0, std::min<int64_t>(n_tokens, plan.ends.sink), pieces);
      exact_from = packed_end(plan.ends, std::max<int64_t>(0, n_tokens - kRollbackTokens));
    }
    add_exact_pieces(cache, exact_from, n_tokens, pieces);
  }
  return pieces;
}

void Sequence::add_packed_pieces(const LayerCache& cache, int64_t n_tokens,
                                 std::vector<std::span<std::byte>>& pieces) const {
  const KvLayerPlan& plan = cache.plan;
  const int64_t first = std::max(plan.sink_pages, first_seen(plan, n_tokens) / kPageTokens);
  const int64_t end = packed_end(plan.ends, n_tokens - 1) / kPageTokens;
  for (int64_t page = first; page < end; ++page)
    pieces.emplace_back(packed_page(cache, page, 0), plan.packed_page_bytes());
}

void Sequence::add_exact_pieces(const LayerCache& cache, int64_t begin, int64_t end,
                                std::vector<std::span<std::byte>>& pieces) const {
  const KvLayerPlan& plan = cache.plan;
  const uint64_t token_bytes = plan.exact_row_bytes / uint64_t(plan.n_kv_heads) /
                               (plan.code.v_only ? 1 : 2);  // of one side of one head
  while (begin < end) {
    const int64_t page_end = std::min(end, (begin / kPageTokens + 1) * kPageTokens);
    const uint64_t bytes = uint64_t(page_end - begin) * token_bytes;
    for (int head = 0; head < plan.n_kv_heads; ++head) {
      const int64_t at = exact_offset(cache, begin, head);
      if (cache.keys) pieces.emplace_back(cache.keys + at, bytes);
      pieces.emplace_back(cache.values + at, bytes);
    }
    begin = page_end;
  }
}

void Sequence::restored(int64_t n_tokens) {
  LAPIDARY_CHECK(length_ == 0 && n_tokens <= capacity_);
  length_ = packed_before_ = n_tokens;
  restored_from_ = std::max<int64_t>(0, n_tokens - kRollbackTokens);
}

}  // namespace lapidary
