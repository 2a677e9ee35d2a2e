// Rings and runs of pages of keys and values, in anonymous mappings that the system backs page by
// page.
#include "runtime/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

// More than any machine's memory, and far from overflow in the sums below.
constexpr uint64_t kMostBytes = uint64_t{1} << 46;

int value_bytes(KvCode kv) { return kv == KvCode::kF32 ? sizeof(float) : sizeof(uint16_t); }

// Zero pages that take no memory until they are written.
void* reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    fail(ErrorCode::kOutOfMemory,
         "KV cache: the system refuses to reserve {} bytes; use a smaller context", bytes);
  return p;
}

}  // namespace

KvCode parse_kv_code(std::string_view text) {
  if (text == "f32") return KvCode::kF32;
  if (text == "off") return KvCode::kBF16;
  fail(ErrorCode::kUsage, "KV code '{}' is not known: expected f32 or off (bf16)", text);
}

Sequence::Sequence(const ModelConfig& config, int64_t capacity, KvCode kv, int max_batch_tokens)
    : capacity_(capacity), max_batch_tokens_(max_batch_tokens), kv_(kv) {
  // Positions are also counted in 32 bits by callers' token arrays.
  if (capacity < 1 || capacity > INT32_MAX)
    fail(ErrorCode::kUsage, "context of {} tokens: expected 1 to {}", capacity, INT32_MAX);
  if (max_batch_tokens < 1)
    fail(ErrorCode::kUsage, "max_batch_tokens is {}: expected at least 1", max_batch_tokens);

  layers_.resize(config.layers.size());
  for (int l = 0; l < config.n_layers(); ++l) {
    if (!config.owns_kv(l)) continue;
    const LayerConfig& layer = config.layers[l];
    const bool sliding = layer.attention == AttentionKind::kSliding;
    const int64_t n_tokens =
        sliding ? std::min<int64_t>(int64_t{layer.window} + max_batch_tokens, capacity) : capacity;
    const int64_t n_pages = (n_tokens + kPageTokens - 1) / kPageTokens;
    // validate() keeps heads and head_dim below 2^24 and 2^10, tokens are below 2^32: no overflow.
    const uint64_t page = uint64_t(layer.n_kv_heads) * uint64_t(layer.head_dim) * kPageTokens *
                          uint64_t(value_bytes(kv));
    if (page > kMostBytes / uint64_t(n_pages) / 2 ||
        reserved_bytes_ > kMostBytes - 2 * page * uint64_t(n_pages))
      fail(ErrorCode::kOutOfMemory,
           "KV cache for {} tokens is beyond {} bytes; use a smaller context", capacity,
           kMostBytes);
    const uint64_t bytes = page * uint64_t(n_pages);
    LayerCache& cache = layers_[l];
    cache.n_pages = n_pages;
    cache.window = sliding ? layer.window : 0;
    cache.n_kv_heads = layer.n_kv_heads;
    cache.head_dim = layer.head_dim;
    for (std::byte** half : {&cache.keys, &cache.values}) {
      *half = static_cast<std::byte*>(reserve(bytes));
      storage_.emplace_back(*half, Unmap{bytes});
    }
    reserved_bytes_ += 2 * bytes;
  }
}

void Sequence::Unmap::operator()(void* p) const { munmap(p, bytes); }

int64_t Sequence::offset(const LayerCache& cache, int64_t position, int kv_head) const {
  const int64_t page = position / kPageTokens % cache.n_pages;
  return ((page * cache.n_kv_heads + kv_head) * kPageTokens + position % kPageTokens) *
         cache.head_dim * value_bytes(kv_);
}

Sequence::Slot Sequence::slot(int layer, int64_t position, int kv_head) const {
  const LayerCache& cache = layers_[layer];
  const int64_t at = offset(cache, position, kv_head);
  return {cache.keys + at, cache.values + at};
}

KvPage Sequence::page(int layer, int64_t page, int kv_head, int64_t /*query_block*/) const {
  const LayerCache& cache = layers_[layer];
  const int64_t at = offset(cache, page * kPageTokens, kv_head);
  return {{kv_, cache.keys + at, cache.head_dim}, {kv_, cache.values + at, cache.head_dim}};
}

// A ring has forgotten what the furthest token ever written pushed out, even if that token was
// itself cut off since; the next query needs the window - 1 tokens before its own.
int64_t Sequence::earliest_rollback() const {
  const int64_t furthest = std::max(furthest_, length_);
  int64_t earliest = 0;
  for (const LayerCache& cache : layers_) {
    const int64_t forgotten = furthest - cache.n_pages * kPageTokens;
    if (cache.keys && forgotten > 0) earliest = std::max(earliest, forgotten + cache.window - 1);
  }
  return earliest;
}

void Sequence::truncate(int64_t length) {
  if (length < 0 || length > length_)
    fail(ErrorCode::kUsage, "cannot cut a sequence of {} tokens to {}", length_, length);
  if (length == 0) {
    length_ = furthest_ = 0;
    return;
  }
  if (length < earliest_rollback())
    fail(ErrorCode::kUsage,
         "cannot go back from {} to {} tokens: sliding layers remember what {} or more need; start "
         "from 0",
         length_, length, earliest_rollback());
  furthest_ = std::max(furthest_, length_);
  length_ = length;
}

uint64_t Sequence::reserved_bytes() const { return reserved_bytes_; }

}  // namespace lapidary
