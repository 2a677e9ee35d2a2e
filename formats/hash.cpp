// XXH3-128 from xxHash; the identity of a model is a hash over its tensors' hashes.
#include "formats/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <new>
#include <utility>

namespace lapidary {
namespace {

Hash128 from_xxh(XXH128_hash_t hash) { return {hash.low64, hash.high64}; }
XXH3_state_t* state_of(void* state) { return static_cast<XXH3_state_t*>(state); }

template <class T>
void update_number(StreamingHash& hash, T value) {  // little-endian, 8 bytes
  uint8_t bytes[8];
  const uint64_t wide = static_cast<uint64_t>(value);
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(wide >> (8 * i));
  hash.update(bytes);
}

}  // namespace

Hash128 hash_bytes(std::span<const uint8_t> bytes) {
  return from_xxh(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string to_hex(Hash128 hash) { return fmt::format("{:016x}{:016x}", hash.high, hash.low); }

StreamingHash::StreamingHash() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(state_of(state_));
}

StreamingHash::StreamingHash(StreamingHash&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)) {}

StreamingHash& StreamingHash::operator=(StreamingHash&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

StreamingHash::~StreamingHash() { XXH3_freeState(state_of(state_)); }

void StreamingHash::update(std::span<const uint8_t> bytes) {
  XXH3_128bits_update(state_of(state_), bytes.data(), bytes.size());
}

Hash128 StreamingHash::digest() const { return from_xxh(XXH3_128bits_digest(state_of(state_))); }

std::string content_hash(std::vector<TensorIdentity> tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorIdentity& a, const TensorIdentity& b) { return a.name < b.name; });
  StreamingHash hash;
  for (const TensorIdentity& t : tensors) {
    update_number(hash, t.name.size());
    hash.update({reinterpret_cast<const uint8_t*>(t.name.data()), t.name.size()});
    update_number(hash, static_cast<int>(t.code));
    update_number(hash, t.shape.size());
    for (const int64_t n : t.shape) update_number(hash, n);
    update_number(hash, t.hash.low);
    update_number(hash, t.hash.high);
  }
  return to_hex(hash.digest());
}

}  // namespace lapidary
