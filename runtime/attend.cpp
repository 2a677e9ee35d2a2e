// Tiles, spans and turns; see the header.
#include "runtime/attend.h"

#include <algorithm>
#include <cmath>

#include "kernels/kv_pages.h"
#include "runtime/lanes.h"

namespace lapidary {
namespace {

// Query rows of a tile. 64 of 512 floats are 128 KiB, twice that with their sums; pages of 128 KiB
// in bf16 pass by: within the 512 KiB of the smallest L2 of today's server cores, and each page's
// bytes serve enough sums to hide their way from memory.
constexpr int kTileRows = 64;
// Work items per thread that keep the last thread's rest small.
constexpr int kItemsPerThread = 4;
constexpr int64_t kPartTilesPerThread = 8;  // a turn's spans: this many full tiles per thread
constexpr int64_t kWholeTile = -1;

int tokens_per_tile(int group) { return std::max(1, kTileRows / group); }

int64_t first_visible(const LayerConfig& shape, int64_t position) {
  return shape.attention == AttentionKind::kSliding
             ? std::max<int64_t>(0, position - shape.window + 1)
             : 0;
}

void clear(const AttentionState& state, int64_t n_rows, int head_dim) {
  std::fill_n(state.max, n_rows, -INFINITY);
  std::fill_n(state.sum, n_rows, 0.0f);
  std::fill_n(state.out, n_rows * head_dim, 0.0f);
}

// Bytes of one query row for packed pages of a layer, whatever their code: at eight bits heads are
// cut into the most blocks.
int64_t packed_row_bytes(const LayerConfig& layer) {
  const auto bytes = [&](KvRole role, int n_rotary) {
    return packed_query_bytes(kv_page_geometry(role, KvCode::kInt8, layer.head_dim, n_rotary));
  };
  const bool v_only =
      layer.k_eq_v && rotary_dims(layer) < layer.head_dim && rotary_dims(layer) <= kKvBlockDims;
  return std::max(bytes(KvRole::kKeys, 0), v_only ? bytes(KvRole::kBoth, rotary_dims(layer)) : 0);
}

AttentionState row_of(const AttentionState& state, int64_t row, int head_dim) {
  return {state.max + row, state.sum + row, state.out + row * head_dim};
}

}  // namespace

PageAttention::PageAttention(const ModelConfig& config, int max_batch_tokens,
                             const KernelTable& kernels, ThreadPool& pool)
    : kernels_(kernels), pool_(pool) {
  int64_t head_dim = 0, n_kv_heads = 0;
  for (const LayerConfig& layer : config.layers) {
    const int group = layer.n_heads / layer.n_kv_heads;
    const int64_t n_rows = int64_t{tokens_per_tile(group)} * group;
    tile_rows_ = std::max(tile_rows_, n_rows);
    query_bytes_ = std::max(query_bytes_, n_rows * packed_row_bytes(layer));
    head_dim = std::max<int64_t>(head_dim, layer.head_dim);
    n_kv_heads = std::max<int64_t>(n_kv_heads, layer.n_kv_heads);
  }
  const int64_t n_threads = pool.n_threads();
  lanes_ = States(n_threads * 2 * tile_rows_, head_dim);
  totals_ = States(n_threads * kItemsPerThread * tile_rows_, head_dim);
  parts_ = States(n_threads * kPartTilesPerThread * tile_rows_, head_dim);
  packed_q_ = AlignedBuffer<uint8_t>(n_threads * query_bytes_);
  const size_t most_tiles = static_cast<size_t>(max_batch_tokens * n_kv_heads);
  tiles_.reserve(most_tiles);
  items_.reserve(most_tiles + static_cast<size_t>(parts_.n_rows()));
  merges_.reserve(static_cast<size_t>(n_threads) * kItemsPerThread);
}

void PageAttention::run(const LayerConfig& shape, std::span<const Row> rows, const float* q,
                        float* out, const RotaryKeys* rotary) {
  const Call call{
      shape, rows, q, out, shape.n_heads / shape.n_kv_heads, shape.n_heads * shape.head_dim,
      rotary};
  cut_tiles(call);
  int64_t n_spans = 0;
  for (const Tile& tile : tiles_) n_spans += tile.n_spans();
  // A tile with more than a fair item's share of the spans is shared out: fewer than
  // kItemsPerThread * n_threads can be.
  const int64_t n_threads = pool_.n_threads();
  const int64_t most_spans =
      n_threads == 1 ? n_spans : std::max<int64_t>(1, n_spans / (kItemsPerThread * n_threads));

  items_.clear();
  merges_.clear();
  for (const Tile& tile : tiles_)
    if (tile.n_spans() <= most_spans)
      items_.push_back({&tile, tile.first_span(), tile.end_span(), kWholeTile});
  int64_t part_row = 0, total_row = 0;
  for (const Tile& tile : tiles_) {
    if (tile.n_spans() <= most_spans) continue;
    const int64_t n_rows = int64_t{tile.n_tokens} * call.group;
    clear(totals_.at(total_row), n_rows, shape.head_dim);
    merges_.push_back({&tile, total_row, items_.size(), 0, false});
    for (int64_t span = tile.first_span(), end; span < tile.end_span(); span = end) {
      if (part_row + n_rows > parts_.n_rows()) {
        take_turn(call);
        part_row = 0;
        merges_.push_back({&tile, total_row, 0, 0, false});
      }
      const int64_t fit = (parts_.n_rows() - part_row) / n_rows;
      end = span + std::min({most_spans, fit, tile.end_span() - span});
      items_.push_back({&tile, span, end, part_row});
      part_row += (end - span) * n_rows;
      ++merges_.back().n_items;
    }
    merges_.back().is_last = true;
    total_row += n_rows;
  }
  take_turn(call);
}

void PageAttention::cut_tiles(const Call& call) {
  tiles_.clear();
  const int most_tokens = tokens_per_tile(call.group);
  for (size_t first = 0, end; first < call.rows.size(); first = end) {
    const Row& row = call.rows[first];
    const int64_t block = row.position / kPageTokens;
    end = first + 1;
    while (end < call.rows.size() && end - first < static_cast<size_t>(most_tokens) &&
           call.rows[end].sequence == row.sequence &&
           call.rows[end].position / kPageTokens == block)
      ++end;
    // Positions ascend within a sequence.
    const int64_t first_page = first_visible(call.shape, row.position) / kPageTokens;
    for (int head = 0; head < call.shape.n_kv_heads; ++head)
      tiles_.push_back({static_cast<int32_t>(first), static_cast<int32_t>(end - first), head,
                        first_page, block + 1});
  }
}

// Computes the items, then merges those of shared tiles.
void PageAttention::take_turn(const Call& call) {
  run_in_lanes(pool_, static_cast<int64_t>(items_.size()), [&](int64_t lane, int64_t i) {
    const Item& item = items_[static_cast<size_t>(i)];
    if (item.part_row == kWholeTile) {
      attend_whole(call, item, lane);
      return;
    }
    const int64_t n_rows = int64_t{item.tile->n_tokens} * call.group;
    for (int64_t span = item.first_span; span < item.end_span; ++span)
      attend_span(call, item, span, lane,
                  parts_.at(item.part_row + (span - item.first_span) * n_rows));
  });
  pool_.run(static_cast<int64_t>(merges_.size()) * tile_rows_, [&](int64_t i) {
    const Merge& merge = merges_[static_cast<size_t>(i / tile_rows_)];
    const int64_t row = i % tile_rows_;
    if (row < int64_t{merge.tile->n_tokens} * call.group) merge_row(call, merge, row);
  });
  items_.clear();
  merges_.clear();
}

void PageAttention::attend_span(const Call& call, const Item& item, int64_t span, int64_t lane,
                                const AttentionState& state) {
  const Tile& tile = *item.tile;
  const LayerConfig& shape = call.shape;
  const Row* rows = &call.rows[static_cast<size_t>(tile.first_row)];
  uint8_t begin[kPageTokens], end[kPageTokens];
  AttentionTile queries{call.q + int64_t{tile.first_row} * call.width +
                            int64_t{tile.kv_head} * call.group * shape.head_dim,
                        call.width,
                        tile.n_tokens,
                        call.group,
                        shape.head_dim,
                        begin,
                        end};
  clear(state, int64_t{tile.n_tokens} * call.group, shape.head_dim);
  const int64_t first_page = std::max(tile.first_page, span * kSpanPages);
  const int64_t end_page = std::min(tile.end_page, (span + 1) * kSpanPages);
  for (int64_t page = first_page; page < end_page; ++page) {
    const auto in_page = [&](int64_t position) {
      return static_cast<uint8_t>(
          std::clamp<int64_t>(position - page * kPageTokens, 0, kPageTokens));
    };
    for (int t = 0; t < tile.n_tokens; ++t) {
      begin[t] = in_page(first_visible(shape, rows[t].position));
      end[t] = in_page(rows[t].position + 1);
    }
    const int64_t block = rows->position / kPageTokens;
    KvPage kv = rows->sequence->page(shape.kv_source, page, tile.kv_head, block);
    if (page + 1 < std::min(tile.end_page, item.end_span * kSpanPages)) {
      const KvPage next = rows->sequence->page(shape.kv_source, page + 1, tile.kv_head, block);
      if (next.keys.code == kv.keys.code) kv.next_keys = next.keys.data;
    }
    queries.rotary_keys = kv.start_angles ? call.rotary : nullptr;
    if (is_packed(kv.values.code) && !queries.packed_q) {
      uint8_t* packed = packed_q_.row(lane, query_bytes_);
      pack_queries(kernels_, kv.start_angles ? *kv.values.geometry : *kv.keys.geometry, queries,
                   packed);
      queries.packed_q = packed;
    }
    kernels_.attend_page(kv, queries, state);
  }
}

void PageAttention::attend_whole(const Call& call, const Item& item, int64_t lane) {
  const Tile& tile = *item.tile;
  const int head_dim = call.shape.head_dim;
  const AttentionState total = lanes_.at(lane * 2 * tile_rows_);
  const AttentionState part = lanes_.at((lane * 2 + 1) * tile_rows_);
  // Merging the first span into nothing would change no bit.
  attend_span(call, item, item.first_span, lane, total);
  for (int64_t span = item.first_span + 1; span < item.end_span; ++span) {
    attend_span(call, item, span, lane, part);
    kernels_.merge_attention(part, int64_t{tile.n_tokens} * call.group, head_dim, total);
  }
  AttentionTile queries{};
  queries.q_stride = call.width;
  queries.n_tokens = tile.n_tokens;
  queries.group = call.group;
  queries.head_dim = head_dim;
  kernels_.finish_attention(total, queries,
                            call.out + int64_t{tile.first_row} * call.width +
                                int64_t{tile.kv_head} * call.group * head_dim);
}

void PageAttention::merge_row(const Call& call, const Merge& merge, int64_t row) {
  const int head_dim = call.shape.head_dim;
  const Tile& tile = *merge.tile;
  const AttentionState total = row_of(totals_.at(merge.total_row), row, head_dim);
  for (size_t i = merge.first_item; i < merge.first_item + merge.n_items; ++i)
    for (int64_t span = 0; span < items_[i].end_span - items_[i].first_span; ++span) {
      const int64_t part_row = items_[i].part_row + span * tile.n_tokens * call.group;
      kernels_.merge_attention(row_of(parts_.at(part_row), row, head_dim), 1, head_dim, total);
    }
  if (!merge.is_last) return;
  AttentionTile query{};
  query.n_tokens = query.group = 1;
  query.head_dim = head_dim;
  kernels_.finish_attention(total, query,
                            call.out + (tile.first_row + row / call.group) * call.width +
                                (int64_t{tile.kv_head} * call.group + row % call.group) * head_dim);
}

}  // namespace lapidary
