// The KV cache of one token sequence: per layer that owns K and V, a ring (sliding layers) or a
// growing run (global layers) of [slots, n_kv_heads, head_dim] in float32 or bf16.
//
// Rings hold window + max_batch_tokens slots, so that a chunk can be appended before its queries
// read. Memory is reserved at construction and touched as tokens come.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "formats/kv_code.h"
#include "formats/model_config.h"

namespace lapidary {

// "f32", "off" (bf16). Throws kUsage for anything else.
KvCode parse_kv_code(std::string_view text);

class Sequence {
 public:
  Sequence(const ModelConfig& config, int64_t capacity, KvCode kv, int max_batch_tokens);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  int64_t length() const { return length_; }      // tokens held
  int64_t capacity() const { return capacity_; }  // tokens that fit
  KvCode kv() const { return kv_; }
  int max_batch_tokens() const { return max_batch_tokens_; }  // most that one step may append
  // Forgets tokens from `length` on. Sliding rings allow going back max_batch_tokens at most;
  // further is an Error(kUsage), except to 0.
  void truncate(int64_t length);
  uint64_t reserved_bytes() const;

  struct LayerCache {
    void* keys = nullptr;
    void* values = nullptr;
    int64_t slots = 0;  // position p lies in slot p % slots
  };
  const LayerCache& layer(int index) const { return layers_[index]; }  // of the KV source
  void advance(int64_t n_tokens) { length_ += n_tokens; }

 private:
  std::vector<LayerCache> layers_;
  struct Unmap {
    uint64_t bytes;
    void operator()(void* p) const;
  };
  std::vector<std::unique_ptr<void, Unmap>> storage_;
  int64_t length_ = 0, capacity_ = 0;
  int64_t furthest_ = 0;  // the most tokens held since the last truncate(0), known at truncate()
  int max_batch_tokens_ = 0;
  KvCode kv_;
  uint64_t reserved_bytes_ = 0;
};

}  // namespace lapidary
