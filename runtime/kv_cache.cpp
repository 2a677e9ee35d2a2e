// Rings and runs of pages, in anonymous mappings that the system backs page by page.
#include "runtime/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>

#include "formats/error.h"
#include "kernels/kv_pages.h"
#include "runtime/v_only.h"

namespace lapidary {
namespace {

int value_bytes(const KvLayerPlan& plan) {
  return plan.code.values == KvCode::kF32 ? sizeof(float) : sizeof(uint16_t);
}

// The first position whose query finds everything it reads, after `furthest` tokens were written.
int64_t earliest_query(const KvLayerPlan& plan, int64_t furthest) {
  const auto ring_start = [](int64_t end_page, int64_t first_page, int64_t n_pages) {
    return std::max(first_page, end_page - n_pages);
  };
  const int64_t end_page = (furthest + kPageTokens - 1) / kPageTokens;
  if (!plan.code.packed()) {
    // The ring forgets token by token; a query needs the window - 1 tokens before its own.
    const int64_t forgotten = furthest - plan.ring_pages * kPageTokens;
    return forgotten > 0 ? forgotten + plan.window - 1 : 0;
  }
  int64_t earliest = 0;
  // Tokens from packed_end() on are read exactly, and pages that begin there may be packed anew.
  const int64_t exact_page = ring_start(end_page, plan.sink_pages, plan.ring_pages);
  if (exact_page > plan.sink_pages) earliest = exact_page * kPageTokens + plan.ends.tail;
  if (plan.sliding && furthest > 0) {
    const int64_t packed_pages = packed_end(plan.ends, furthest - 1) / kPageTokens;
    const int64_t packed_page = ring_start(packed_pages, 0, plan.packed_pages);
    if (packed_page > 0) earliest = std::max(earliest, packed_page * kPageTokens + plan.window - 1);
  }
  return earliest;
}

}  // namespace

Sequence::Sequence(const ModelConfig& config, int64_t capacity, const KvOptions& kv,
                   int max_batch_tokens)
    : capacity_(capacity), max_batch_tokens_(max_batch_tokens), kv_(kv) {
  const KvPlan plan = plan_kv(config, kv, capacity, max_batch_tokens);
  layers_.resize(config.layers.size());
  for (const KvLayerPlan& layer : plan.layers) {
    LayerCache& cache = layers_[static_cast<size_t>(layer.layer)];
    cache.plan = layer;
    const uint64_t exact = uint64_t(layer.exact_pages()) * kPageTokens * layer.exact_row_bytes;
    if (!layer.code.v_only) cache.keys = reserve(exact / 2);
    cache.values = reserve(layer.code.v_only ? exact : exact / 2);
    if (layer.packed_pages > 0)
      cache.packed = reserve(uint64_t(layer.packed_pages) * layer.packed_page_bytes());
    if (layer.code.v_only) cache.angles = angles_of(config.layers[layer.layer]);
  }
}

// Zero pages that take no memory until they are written.
std::byte* Sequence::reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    fail(ErrorCode::kOutOfMemory,
         "KV cache: the system refuses to reserve {} bytes; use a smaller context", bytes);
  // A long context is read from end to end for each token: with large pages the processor looks
  // addresses up less often. They take memory 2 MiB at a time, which short contexts should not.
  constexpr uint64_t kWorthLargePages = 16 << 20;
  if (bytes >= kWorthLargePages) madvise(p, bytes, MADV_HUGEPAGE);
  storage_.emplace_back(static_cast<std::byte*>(p), Unmap{bytes});
  reserved_bytes_ += bytes;
  return storage_.back().get();
}

void Sequence::Unmap::operator()(std::byte* p) const { munmap(p, bytes); }

// Layers of one kind share their angles.
const float* Sequence::angles_of(const LayerConfig& layer) {
  for (const auto& known : angles_)
    if (known->rope == layer.rope && known->head_dim == layer.head_dim) return known->values.data();
  const int64_t n_pages = (capacity_ + kPageTokens - 1) / kPageTokens;
  angles_.push_back(
      std::make_unique<Angles>(Angles{layer.rope, layer.head_dim, page_angles(layer, n_pages)}));
  return angles_.back()->values.data();
}

int64_t Sequence::exact_offset(const LayerCache& cache, int64_t position, int kv_head) {
  const KvLayerPlan& plan = cache.plan;
  const int64_t slot = plan.exact_slot(position / kPageTokens);
  return ((slot * plan.n_kv_heads + kv_head) * kPageTokens + position % kPageTokens) *
         plan.head_dim * value_bytes(plan);
}

std::byte* Sequence::packed_page(const LayerCache& cache, int64_t page, int kv_head) {
  const KvLayerPlan& plan = cache.plan;
  return cache.packed + (plan.packed_slot(page) * plan.n_kv_heads + kv_head) *
                            (plan.key_page.bytes + plan.value_page.bytes);
}

Sequence::Slot Sequence::slot(int layer, int64_t position, int kv_head) const {
  const LayerCache& cache = layers_[layer];
  const int64_t at = exact_offset(cache, position, kv_head);
  return {cache.keys ? cache.keys + at : nullptr, cache.values + at};
}

KvPage Sequence::page(int layer, int64_t page, int kv_head, int64_t query_block) const {
  const LayerCache& cache = layers_[layer];
  const KvLayerPlan& plan = cache.plan;
  KvPage result{};
  if (cache.angles) result.start_angles = cache.angles + page * plan.value_page.n_rotary;
  const int64_t first = page * kPageTokens;
  if (plan.code.packed() && first >= plan.ends.sink &&
      first < packed_end(plan.ends, query_block * kPageTokens)) {
    const std::byte* data = packed_page(cache, page, kv_head);
    if (!plan.code.v_only) result.keys = {plan.code.keys, data, 0, &plan.key_page};
    result.values = {plan.code.values, data + plan.key_page.bytes, 0, &plan.value_page};
    return result;
  }
  const KvCode code = plan.code.values == KvCode::kF32 ? KvCode::kF32 : KvCode::kBF16;
  const int64_t at = exact_offset(cache, first, kv_head);
  result.keys = {code, cache.keys ? cache.keys + at : nullptr, plan.head_dim};
  result.values = {code, cache.values + at, plan.head_dim};
  return result;
}

Sequence::PageRange Sequence::unpacked_pages(int layer, int64_t last_position) const {
  const KvLayerPlan& plan = layers_[layer].plan;
  if (!plan.code.packed()) return {0, 0};
  const int64_t done = packed_end(plan.ends, std::max<int64_t>(0, packed_before_ - 1));
  return {done / kPageTokens, packed_end(plan.ends, last_position) / kPageTokens};
}

void Sequence::pack_page(const KernelTable& kernels, int layer, int64_t page, int kv_head) const {
  const LayerCache& cache = layers_[layer];
  const KvLayerPlan& plan = cache.plan;
  const int64_t at = exact_offset(cache, page * kPageTokens, kv_head);
  auto* out = reinterpret_cast<uint8_t*>(packed_page(cache, page, kv_head));
  if (cache.keys)
    pack_kv_page(kernels, plan.key_page, reinterpret_cast<const uint16_t*>(cache.keys + at),
                 plan.head_dim, out);
  pack_kv_page(kernels, plan.value_page, reinterpret_cast<const uint16_t*>(cache.values + at),
               plan.head_dim, out + plan.key_page.bytes);
}

void Sequence::advance(int64_t n_tokens) {
  length_ += n_tokens;
  packed_before_ = std::max(packed_before_, length_);
}

int64_t Sequence::earliest_rollback() const {
  const int64_t furthest = std::max(furthest_, length_);
  int64_t earliest = restored_from_;
  for (const LayerCache& cache : layers_)
    if (cache.owned()) earliest = std::max(earliest, earliest_query(cache.plan, furthest));
  return earliest;
}

void Sequence::truncate(int64_t length) {
  if (length < 0 || length > length_)
    fail(ErrorCode::kUsage, "cannot cut a sequence of {} tokens to {}", length_, length);
  if (length == 0) {
    length_ = furthest_ = packed_before_ = restored_from_ = 0;
    return;
  }
  if (length < earliest_rollback())
    fail(ErrorCode::kUsage,
         "cannot go back from {} to {} tokens: the cache remembers what {} or more need; start "
         "from 0",
         length_, length, earliest_rollback());
  furthest_ = std::max(furthest_, length_);
  length_ = length;
  // What the query at `length` reads packed lies before it and stays; later pages may have lost
  // tokens.
  packed_before_ = std::min(packed_before_, length + 1);
}

}  // namespace lapidary
