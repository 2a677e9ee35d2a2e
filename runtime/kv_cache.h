// The KV cache of one token sequence: per layer that owns K and V, pages of 64 tokens of each K/V
// head, exact ones in float32 or bf16 and, where the layer is packed, packed ones.
//
// Exact pages are a run (global layers) or a ring: of the window on sliding layers, of the tail on
// packed ones, behind the pages of the sink. A page is packed from its bf16 values when a query
// first reads it packed, and then never changes unless a rollback takes tokens out of it. Packed
// layers hold K and V rotated (V-only layers: V in the shared basis), exact pages too, so that one
// query serves both. Sizes are runtime/kv_plan.h's. Memory is reserved at construction and touched
// as tokens come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/kv_plan.h"

namespace lapidary {

class Sequence {
 public:
  // Throws as plan_kv().
  Sequence(const ModelConfig& config, int64_t capacity, const KvOptions& kv, int max_batch_tokens);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  int64_t length() const { return length_; }      // tokens held
  int64_t capacity() const { return capacity_; }  // tokens that fit
  const KvOptions& kv() const { return kv_; }
  int max_batch_tokens() const { return max_batch_tokens_; }  // most that one step may append
  // Forgets tokens from `length` on: to earliest_rollback() or more, or to 0; else Error(kUsage).
  void truncate(int64_t length);
  // What came before has left the rings: at least kRollbackTokens behind the furthest token held.
  int64_t earliest_rollback() const;
  uint64_t reserved_bytes() const { return reserved_bytes_; }

  // All take the layer that owns K and V.
  const KvLayerPlan& plan(int layer) const { return layers_[layer].plan; }
  // Where K and V of the token at `position` are written, [head_dim] each, in float32 if
  // plan(layer).code is f32, else bf16; keys is null in V-only layers.
  struct Slot {
    void *keys, *values;
  };
  Slot slot(int layer, int64_t position, int kv_head) const;
  // What queries at positions [64 * query_block, 64 * query_block + 64) read of a page.
  KvPage page(int layer, int64_t page, int kv_head, int64_t query_block) const;

  // Pages [first, end) that queries up to `last_position` read packed and that are not yet. Their
  // tokens are written; pack_page() makes them, in any order, before those queries read.
  struct PageRange {
    int64_t first, end;
  };
  PageRange unpacked_pages(int layer, int64_t last_position) const;
  void pack_page(const KernelTable& kernels, int layer, int64_t page, int kv_head) const;
  void advance(int64_t n_tokens);

  // The memory, in an order of its own, that must be kept to go on after n_tokens, or up to
  // kRollbackTokens before: what a session file holds (docs/kv-cache.md). Pieces of a sequence of
  // another capacity or max_batch_tokens are the same. REQUIRES: n_tokens <= capacity.
  std::vector<std::span<std::byte>> held_pieces(int64_t n_tokens) const;
  // Takes the pieces, filled by the caller, as the sequence's content. REQUIRES: length() == 0.
  void restored(int64_t n_tokens);

  // The same page by page, as a prefix cache keeps it (kv_prefix.cpp). Queries at any distance
  // behind a page read its lasting part; its near part only those within a window or a tail.
  enum class PagePart : uint8_t { kLasting, kNear };
  uint64_t page_part_bytes(int64_t page, PagePart part) const;
  // The page is complete and lies in every ring.
  bool holds_page(int64_t page) const;
  // REQUIRES: holds_page(page); `out` has page_part_bytes().
  void copy_page_out(const KernelTable& kernels, int64_t page, PagePart part, std::byte* out) const;
  // The first page whose near part must be there to go on after n_tokens.
  int64_t first_near_page(int64_t n_tokens) const;
  // Takes a page into an empty sequence that will go on after n_tokens, a multiple of kPageTokens,
  // once restored(n_tokens) is called: pages in ascending order, lasting parts of all, near parts
  // from first_near_page() on. Part and page of the same model and KvOptions.
  void copy_page_in(int64_t page, PagePart part, const std::byte* data, int64_t n_tokens);

 private:
  struct LayerCache {
    KvLayerPlan plan;
    std::byte *keys = nullptr, *values = nullptr;  // exact pages [slot, n_kv_heads, 64, head_dim]
    std::byte* packed = nullptr;                   // [slot, n_kv_heads] key page, value page
    const float* angles = nullptr;                 // V-only: [page, n_rotary], see page_angles()
    bool owned() const { return values != nullptr; }
  };
  static int64_t exact_offset(const LayerCache& cache, int64_t position, int kv_head);  // in bytes
  static std::byte* packed_page(const LayerCache& cache, int64_t page, int kv_head);
  struct PageForm {
    const LayerCache* cache;
    bool packed;
    uint64_t bytes;
  };
  std::vector<PageForm> page_forms(int64_t page, PagePart part) const;
  void add_packed_pieces(const LayerCache& cache, int64_t n_tokens,
                         std::vector<std::span<std::byte>>& pieces) const;
  void add_exact_pieces(const LayerCache& cache, int64_t begin, int64_t end,
                        std::vector<std::span<std::byte>>& pieces) const;
  std::byte* reserve(uint64_t bytes);
  const float* angles_of(const LayerConfig& layer);

  struct Unmap {
    uint64_t bytes;
    void operator()(std::byte* p) const;
  };
  struct Angles {
    RopeConfig rope;
    int head_dim;
    std::vector<float> values;
  };
  std::vector<LayerCache> layers_;
  std::vector<std::unique_ptr<std::byte, Unmap>> storage_;
  std::vector<std::unique_ptr<Angles>> angles_;
  int64_t length_ = 0, capacity_ = 0;
  int64_t furthest_ = 0;  // the most tokens held since the last truncate(0), known at truncate()
  int64_t packed_before_ = 0;  // whatever a query below this position reads packed, is
  int64_t restored_from_ = 0;  // queries before it may miss what a session did not hold
  int max_batch_tokens_ = 0;
  KvOptions kv_;
  uint64_t reserved_bytes_ = 0;
};

}  // namespace lapidary
