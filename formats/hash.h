// Hashes: XXH3-128 for every tensor and section, and the identity of a set of weights.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/code.h"

namespace lapidary {

struct Hash128 {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
};

Hash128 hash_bytes(std::span<const uint8_t> bytes);
std::string to_hex(Hash128 hash);  // 32 digits, high word first

// A hash over bytes that arrive in pieces.
class StreamingHash {
 public:
  StreamingHash();
  StreamingHash(StreamingHash&&) noexcept;
  StreamingHash& operator=(StreamingHash&&) noexcept;
  ~StreamingHash();
  void update(std::span<const uint8_t> bytes);
  Hash128 digest() const;

 private:
  void* state_;
};

struct TensorIdentity {
  std::string_view name;
  Code code;
  std::vector<int64_t> shape;
  Hash128 hash;  // of the tensor's stored bytes
};
// The identity of a model's weights, hex: the hash of (name, code, shape, hash) of its tensors
// sorted by name. Two files with the same weights in another order, or with other metadata, agree.
std::string content_hash(std::vector<TensorIdentity> tensors);

}  // namespace lapidary
