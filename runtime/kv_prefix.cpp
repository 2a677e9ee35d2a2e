// Pages of a sequence for a prefix cache: out as soon as they are complete, in when another
// sequence begins with the same tokens.
//
// A page has up to two forms in each layer, exact and packed. Which of them a query reads depends
// on its distance: of a global layer that is packed the near ones read the exact form, the far ones
// the packed form; of a sliding layer only near queries read anything. Packed forms go out packed
// anew from the exact ones, which gives the same bytes at any time.
#include <algorithm>
#include <cstring>

#include "formats/error.h"
#include "kernels/kv_pages.h"
#include "runtime/kv_cache.h"

namespace lapidary {
namespace {

int64_t first_seen_page(const KvLayerPlan& plan, int64_t n_tokens) {
  const int64_t query = std::max<int64_t>(0, n_tokens - kRollbackTokens);
  return plan.sliding ? std::max<int64_t>(0, query - plan.window + 1) / kPageTokens : 0;
}

// From this page on a packed layer's exact forms are read after n_tokens.
int64_t first_exact_page(const KvLayerPlan& plan, int64_t n_tokens) {
  return packed_end(plan.ends, std::max<int64_t>(0, n_tokens - kRollbackTokens)) / kPageTokens;
}

bool is_needed(const KvLayerPlan& plan, bool packed, int64_t page, int64_t n_tokens) {
  if (packed)
    return page >= first_seen_page(plan, n_tokens) &&
           page < packed_end(plan.ends, n_tokens - 1) / kPageTokens;
  if (!plan.code.packed()) return page >= first_seen_page(plan, n_tokens);
  return page < plan.sink_pages || page >= first_exact_page(plan, n_tokens);
}

}  // namespace

std::vector<Sequence::PageForm> Sequence::page_forms(int64_t page, PagePart part) const {
  std::vector<PageForm> forms;
  for (const LayerCache& cache : layers_) {
    if (!cache.owned()) continue;
    const KvLayerPlan& plan = cache.plan;
    const bool is_packed = plan.code.packed() && page >= plan.ends.sink / kPageTokens;
    const PagePart exact = is_packed || plan.sliding ? PagePart::kNear : PagePart::kLasting;
    if (exact == part) forms.push_back({&cache, false, kPageTokens * plan.exact_row_bytes});
    if (is_packed && (plan.sliding ? PagePart::kNear : PagePart::kLasting) == part)
      forms.push_back({&cache, true, plan.packed_page_bytes()});
  }
  return forms;
}

uint64_t Sequence::page_part_bytes(int64_t page, PagePart part) const {
  uint64_t bytes = 0;
  for (const PageForm& form : page_forms(page, part)) bytes += form.bytes;
  return bytes;
}

bool Sequence::holds_page(int64_t page) const {
  if (page < 0 || (page + 1) * kPageTokens > length_) return false;
  const int64_t last = (std::max(furthest_, length_) - 1) / kPageTokens;
  return std::all_of(layers_.begin(), layers_.end(), [&](const LayerCache& cache) {
    const KvLayerPlan& plan = cache.plan;
    return !cache.owned() || page < plan.sink_pages || last - page < plan.ring_pages;
  });
}

void Sequence::copy_page_out(const KernelTable& kernels, int64_t page, PagePart part,
                             std::byte* out) const {
  LAPIDARY_CHECK(holds_page(page));
  for (const PageForm& form : page_forms(page, part)) {
    const KvLayerPlan& plan = form.cache->plan;
    const int64_t at = exact_offset(*form.cache, page * kPageTokens, 0);
    const uint64_t head_bytes = uint64_t(exact_offset(*form.cache, page * kPageTokens, 1) - at);
    for (int head = 0; head < plan.n_kv_heads; ++head)
      for (const std::byte* side : {form.cache->keys, form.cache->values}) {
        if (!side) continue;
        const std::byte* from = side + at + uint64_t(head) * head_bytes;
        if (!form.packed) {
          std::memcpy(out, from, head_bytes);
          out += head_bytes;
          continue;
        }
        const KvPageGeometry& geometry = side == form.cache->keys ? plan.key_page : plan.value_page;
        pack_kv_page(kernels, geometry, reinterpret_cast<const uint16_t*>(from), plan.head_dim,
                     reinterpret_cast<uint8_t*>(out));
        out += geometry.bytes;
      }
  }
}

int64_t Sequence::first_near_page(int64_t n_tokens) const {
  int64_t first = n_tokens / kPageTokens;
  for (const LayerCache& cache : layers_) {
    if (!cache.owned()) continue;
    const KvLayerPlan& plan = cache.plan;
    if (plan.sliding) first = std::min(first, first_seen_page(plan, n_tokens));
    if (plan.code.packed()) first = std::min(first, first_exact_page(plan, n_tokens));
  }
  return first;
}

void Sequence::copy_page_in(int64_t page, PagePart part, const std::byte* data, int64_t n_tokens) {
  LAPIDARY_CHECK(length_ == 0 && n_tokens <= capacity_ && n_tokens % kPageTokens == 0 &&
                 page < n_tokens / kPageTokens);
  for (const PageForm& form : page_forms(page, part)) {
    const LayerCache& cache = *form.cache;
    if (!is_needed(cache.plan, form.packed, page, n_tokens)) {
      data += form.bytes;
    } else if (form.packed) {
      std::memcpy(packed_page(cache, page, 0), data, form.bytes);
      data += form.bytes;
    } else {
      const int64_t at = exact_offset(cache, page * kPageTokens, 0);
      const uint64_t head_bytes = uint64_t(exact_offset(cache, page * kPageTokens, 1) - at);
      for (int head = 0; head < cache.plan.n_kv_heads; ++head)
        for (std::byte* side : {cache.keys, cache.values}) {
          if (!side) continue;
          std::memcpy(side + at + uint64_t(head) * head_bytes, data, head_bytes);
          data += head_bytes;
        }
    }
  }
}

}  // namespace lapidary
