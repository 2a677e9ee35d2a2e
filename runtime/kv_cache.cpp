// Rings and runs of keys and values, in anonymous mappings that the system backs page by page.
#include "runtime/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

// More than any machine's memory, and far from overflow in the sums below.
constexpr uint64_t kMostBytes = uint64_t{1} << 46;

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

  const uint64_t value_bytes = kv == KvCode::kF32 ? sizeof(float) : sizeof(uint16_t);
  layers_.resize(config.layers.size());
  for (int l = 0; l < config.n_layers(); ++l) {
    if (!config.owns_kv(l)) continue;
    const LayerConfig& layer = config.layers[l];
    const int64_t slots =
        layer.attention == AttentionKind::kSliding
            ? std::min<int64_t>(int64_t{layer.window} + max_batch_tokens, capacity)
            : capacity;
    // validate() keeps heads and head_dim below 2^24 and 2^10, slots are below 2^32: no overflow.
    const uint64_t row = uint64_t(layer.n_kv_heads) * uint64_t(layer.head_dim) * value_bytes;
    if (row > kMostBytes / uint64_t(slots) / 2 || reserved_bytes_ > kMostBytes - 2 * row * slots)
      fail(ErrorCode::kOutOfMemory,
           "KV cache for {} tokens is beyond {} bytes; use a smaller context", capacity,
           kMostBytes);
    const uint64_t bytes = row * uint64_t(slots);
    layers_[l].slots = slots;
    for (void** half : {&layers_[l].keys, &layers_[l].values}) {
      *half = reserve(bytes);
      storage_.emplace_back(*half, Unmap{bytes});
    }
    reserved_bytes_ += 2 * bytes;
  }
}

void Sequence::Unmap::operator()(void* p) const { munmap(p, bytes); }

void Sequence::truncate(int64_t length) {
  if (length < 0 || length > length_)
    fail(ErrorCode::kUsage, "cannot cut a sequence of {} tokens to {}", length_, length);
  if (length == 0) {
    length_ = furthest_ = 0;
    return;
  }
  // A ring has forgotten what the furthest token ever written pushed out, even if that token was
  // itself cut off since.
  furthest_ = std::max(furthest_, length_);
  bool has_ring = false;
  for (const LayerCache& layer : layers_) has_ring |= layer.keys && layer.slots < capacity_;
  if (has_ring && furthest_ - length > max_batch_tokens_)
    fail(ErrorCode::kUsage,
         "cannot go back from {} to {} tokens: sliding layers keep {} tokens for going back; start "
         "from 0",
         furthest_, length, max_batch_tokens_);
  length_ = length;
}

uint64_t Sequence::reserved_bytes() const { return reserved_bytes_; }

}  // namespace lapidary
