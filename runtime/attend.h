// Attention over the pages of caches: cuts a step's queries into work for all threads.
//
// A tile is some consecutive query tokens of one sequence and the query heads of one K/V head: as
// many rows as stay in L2 beside a page, and never across a multiple of 64 positions, so that all
// of them read the same representation of each page. The pages it sees are cut, by absolute
// position, into spans; each span is summed by itself and the sums are merged in ascending order.
// So the bits are the same whether one thread walks the spans of a tile or many share them. Only
// pages that overlap a tile's window are visited. Scratch is sized at construction; when the spans
// of long sequences are more than fit, they take turns.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "runtime/workspace.h"

namespace lapidary {

class PageAttention {
 public:
  PageAttention(const ModelConfig& config, int max_batch_tokens, const KernelTable& kernels,
                ThreadPool& pool);

  // q and out [rows, n_heads, head_dim]; K and V of the rows are in their sequences, and q is in
  // the basis that they are in. `rotary` where a sequence may hold V alone.
  void run(const LayerConfig& shape, std::span<const Row> rows, const float* q, float* out,
           const RotaryKeys* rotary = nullptr);

 private:
  struct Tile {
    int32_t first_row, n_tokens, kv_head;
    int64_t first_page, end_page;
    int64_t first_span() const { return first_page / kSpanPages; }
    int64_t end_span() const { return (end_page + kSpanPages - 1) / kSpanPages; }
    int64_t n_spans() const { return end_span() - first_span(); }
  };
  // Consecutive spans of a tile: all of them, or some of a tile that is shared out.
  struct Item {
    const Tile* tile;
    int64_t first_span, end_span;
    int64_t part_row;  // where the sums of its spans go, of parts_; kWholeTile: to the result
  };
  // Consecutive items of one shared tile.
  struct Merge {
    const Tile* tile;
    int64_t total_row;  // of totals_
    size_t first_item, n_items;
    bool is_last;
  };
  // Running softmaxes of some rows.
  struct States {
    States() = default;
    States(int64_t n_rows, int64_t width)
        : width(width), max(n_rows), sum(n_rows), out(n_rows * width) {}
    AttentionState at(int64_t row) {
      return {max.row(row, 1), sum.row(row, 1), out.row(row, width)};
    }
    int64_t n_rows() const { return max.size(); }
    int64_t width = 0;
    AlignedBuffer<float> max, sum, out;
  };
  struct Call {
    const LayerConfig& shape;
    std::span<const Row> rows;
    const float* q;
    float* out;
    int group, width;  // query heads of a K/V head; floats of a row of q
    const RotaryKeys* rotary;
  };

  void cut_tiles(const Call& call);
  void take_turn(const Call& call);
  void attend_span(const Call& call, const Item& item, int64_t span, int64_t lane,
                   const AttentionState& state);
  void attend_whole(const Call& call, const Item& item, int64_t lane);
  void merge_row(const Call& call, const Merge& merge, int64_t row);

  const KernelTable& kernels_;
  ThreadPool& pool_;
  int64_t tile_rows_ = 0;            // the most of any layer
  States lanes_;                     // per lane: a total and a part
  States totals_, parts_;            // of shared tiles
  int64_t query_bytes_ = 0;          // of a tile's rows as packed pages take them
  AlignedBuffer<uint8_t> packed_q_;  // [lanes, query_bytes_]
  std::vector<Tile> tiles_;          // of the call
  std::vector<Item> items_;          // of the turn
  std::vector<Merge> merges_;        // of the turn
};

}  // namespace lapidary
