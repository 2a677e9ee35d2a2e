// The KV cache of one token sequence: per layer that owns K and V, a ring (sliding layers) or a
// growing run (global layers) of pages in float32 or bf16.
//
// A page holds 64 consecutive tokens of each K/V head: [n_pages, n_kv_heads, 64, head_dim], page p
// of the sequence at index p % n_pages. Rings hold window + max_batch_tokens tokens, rounded up, so
// that a chunk can be appended before its queries read. Memory is reserved at construction and
// touched as tokens come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "formats/kv_code.h"
#include "formats/model_config.h"
#include "kernels/attention.h"

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
  // Forgets tokens from `length` on: to earliest_rollback() or more, or to 0; else Error(kUsage).
  void truncate(int64_t length);
  int64_t earliest_rollback() const;  // sliding rings have forgotten what came before
  uint64_t reserved_bytes() const;

  // Where K and V of the token at `position` are written, [head_dim] each.
  struct Slot {
    void *keys, *values;
  };
  Slot slot(int layer, int64_t position, int kv_head) const;
  // What queries at positions [64 * query_block, 64 * query_block + 64) read of a page. `layer` is
  // the KV source.
  KvPage page(int layer, int64_t page, int kv_head, int64_t query_block) const;
  void advance(int64_t n_tokens) { length_ += n_tokens; }

 private:
  struct LayerCache {
    std::byte* keys = nullptr;
    std::byte* values = nullptr;
    int64_t n_pages = 0;
    int64_t window = 0;  // of rings
    int n_kv_heads = 0, head_dim = 0;
  };
  int64_t offset(const LayerCache& cache, int64_t position, int kv_head) const;  // in bytes

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
