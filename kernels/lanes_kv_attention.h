// Attention on one packed page: what the vector files share. kernels/kv_attention.h has the
// arithmetic.
//
// Blocks of up to 8 query rows meet the page: integer scores block by block, the running softmax of
// float pages (take_scores), weights as integers, integer sums of values. With at most 8 rows codes
// are decoded in registers; with more, once for all of them to int8 lines on the stack (8-bit
// layout, 64 bytes per dim), which then are read like an 8-bit page.
//
// V is a set of lanes with the integer kernels of one instruction set:
//   V::decode(block, codes, keys, lines), V::transpose(block, codes, lines)
//   V::add_scores<Rows>(...), V::add_values<Rows>(...), V::store_weights(...)
//   V::rebuild_rotary(...), V::rotary_scores<Rows>(...)
#pragma once

#include "kernels/kv_attention.h"
#include "kernels/lanes_attention.h"

namespace lapidary::lanes {

namespace {  // each file its own: nothing may be shared between instruction sets

constexpr int kPackedRows = 8;

struct PackedRow {
  QueryRow row;
  PackedQuery query;
};

// One side of a page as the integer kernels read it.
struct PackedSide {
  const KvPageGeometry* page;
  const uint8_t* data;
  bool decoded;  // data holds lines
  alignas(64) float scales[kMaxKvBlocks][kPageTokens];

  const uint8_t* codes(const KvBlock& block) const {
    return data + (decoded ? int64_t{block.first_padded} * kPageTokens : block.offset);
  }
  KvCode stored(const KvBlock& block) const { return decoded ? KvCode::kInt8 : block.code; }
};

struct PackedPage {
  PackedSide keys, values;
  const KvPage* page;
  const RotaryKeys* rotary;
  const float* rotary_keys;  // [n_rotary, 64], as if the page started at position 0
};

struct PackedScratch {
  alignas(64) uint8_t keys[kPageTokens * kMaxPaddedDims];
  alignas(64) uint8_t values[kPageTokens * kMaxPaddedDims];
  alignas(64) float rotary_keys[kKvBlockDims * kPageTokens];
};

// The weights of one row as integers: two planes of bytes or one of words, as V wants them.
struct alignas(64) RowWeights {
  uint8_t bytes[2 * kPageTokens];
};

}  // namespace

static inline bool two_planes(const KvBlock& block) { return block.code == KvCode::kInt8; }

template <class V>
static void load_scales(PackedSide& side) {
  const auto* bits =
      reinterpret_cast<const typename V::Half*>(side.data + side.page->scales_offset);
  for (int b = 0; b < side.page->n_blocks; ++b)
    for (int t = 0; t < kPageTokens; t += V::kLanes)
      V::store(side.scales[b] + t, V::load(bits + b * kPageTokens + t));
}

// Weights p of one row times the block's scales, as integers; returns what one of them stands for.
template <class V>
static float quantize_weights(const float* p, const float* scales, bool two, RowWeights& out) {
  alignas(64) float weights[kPageTokens];
  const auto zero = V::set(0.0f);
  auto largest = zero;
  for (int t = 0; t < kPageTokens; t += V::kLanes) {
    const auto w = V::multiply(V::load(p + t), V::load(scales + t));
    V::store(weights + t, w);
    largest = V::max(w, largest);
  }
  const float top = V::fold_max(largest);
  if (!(top > kNoWeight)) {
    std::memset(out.bytes, 0, sizeof out.bytes);
    return 0;
  }
  const auto factor = V::set(static_cast<float>(kWeightRange) / top);
  for (int t = 0; t < kPageTokens; t += V::kLanes)
    V::store(weights + t, V::max(V::multiply(V::load(weights + t), factor), zero));
  V::store_weights(weights, two, out.bytes);
  return top * (two ? kWeightStep2 : kWeightStep1);
}

template <class V, int Rows>
static void attend_packed_rows(const PackedRow* rows, const PackedPage& page, int head_dim) {
  RowScores scores[Rows] = {};
  for (int b = 0; b < page.keys.page->n_blocks; ++b)
    if (page.keys.page->blocks[b].first_dim < page.keys.page->n_rotary)
      V::template rotary_scores<Rows>(rows, page, scores);
    else
      V::template add_scores<Rows>(rows, page.keys, b, scores);
  for (int r = 0; r < Rows; ++r) take_scores<V>(rows[r].row, head_dim, scores[r]);
  for (int b = 0; b < page.values.page->n_blocks; ++b) {
    RowWeights weights[Rows];
    float steps[Rows];
    for (int r = 0; r < Rows; ++r)
      steps[r] = quantize_weights<V>(scores[r].key, page.values.scales[b],
                                     two_planes(page.values.page->blocks[b]), weights[r]);
    V::template add_values<Rows>(rows, page.values, b, weights, steps);
  }
}

// Keys of V-only pages are the values, transposed, and floats where they rotate.
template <class V>
static void prepare_shared(PackedPage& page, PackedScratch& scratch) {
  page.keys = page.values;
  page.keys.data = scratch.keys;
  page.keys.decoded = true;
  const KvPageGeometry& g = *page.values.page;
  for (int b = 0; b < g.n_blocks; ++b) {
    const uint8_t* codes = page.values.codes(g.blocks[b]);
    if (g.blocks[b].first_dim < g.n_rotary)
      V::rebuild_rotary(codes, *page.rotary, scratch.rotary_keys);
    else
      V::transpose(page.values.stored(g.blocks[b]), g.blocks[b], codes,
                   scratch.keys + g.blocks[b].first_padded * kPageTokens);
  }
  page.rotary_keys = scratch.rotary_keys;
}

template <class V>
static void decode_side(PackedSide& side, uint8_t* lines) {
  for (int b = 0; b < side.page->n_blocks; ++b)
    V::decode(side.page->blocks[b], side.codes(side.page->blocks[b]),
              side.page->role == KvRole::kKeys,
              lines + side.page->blocks[b].first_padded * kPageTokens);
  side.data = lines;
  side.decoded = true;
}

// kernels.h, attend_page, on packed codes.
template <class V>
static void attend_packed_page(const KvPage& kv, const AttentionTile& tile,
                               const AttentionState& state) {
  PackedScratch scratch;
  PackedPage page;
  page.page = &kv;
  page.rotary = tile.rotary_keys;
  const bool many = V::kAlwaysDecodes || tile.n_tokens * tile.group > kPackedRows;
  page.values.page = kv.values.geometry;
  page.values.data = static_cast<const uint8_t*>(kv.values.data);
  page.values.decoded = false;
  load_scales<V>(page.values);
  if (many) decode_side<V>(page.values, scratch.values);
  if (page.values.page->role == KvRole::kBoth) {
    prepare_shared<V>(page, scratch);
  } else {
    page.keys.page = kv.keys.geometry;
    page.keys.data = static_cast<const uint8_t*>(kv.keys.data);
    page.keys.decoded = false;
    load_scales<V>(page.keys);
    if (many) decode_side<V>(page.keys, scratch.keys);
  }

  PackedRow rows[kPackedRows];
  int n = 0;
  for (int token = 0; token < tile.n_tokens; ++token) {
    if (tile.begin[token] >= tile.end[token]) continue;
    for (int head = 0; head < tile.group; ++head) {
      const int64_t row = int64_t{token} * tile.group + head;
      rows[n++] = {
          {tile.q + token * tile.q_stride + int64_t{head} * tile.head_dim, state.max + row,
           state.sum + row, state.out + row * tile.head_dim, tile.begin[token], tile.end[token]},
          packed_query(*page.keys.page, tile.packed_q, row)};
      if (n < kPackedRows) continue;
      attend_packed_rows<V, kPackedRows>(rows, page, tile.head_dim);
      n = 0;
    }
  }
  const PackedRow* rest = rows;
  if (n & 4) attend_packed_rows<V, 4>(rest, page, tile.head_dim), rest += 4;
  if (n & 2) attend_packed_rows<V, 2>(rest, page, tile.head_dim), rest += 2;
  if (n & 1) attend_packed_rows<V, 1>(rest, page, tile.head_dim);
}

}  // namespace lapidary::lanes
