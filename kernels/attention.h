// Attention by pages: the running softmax of some query rows over 64 cached tokens at a time.
//
// A query's sum is cut by absolute position only: into pages of 64 tokens, and pages into spans
// whose partial sums are merged in ascending order. So a token's result does not depend on the
// chunk, batch or threads it was computed with, and spans can be shared out among threads.
// Method: Milakov & Gimelshein, «Online normalizer calculation for softmax» (arXiv 1805.02867);
// Dao et al., «FlashAttention» (arXiv 2205.14135), algorithm 1.
#pragma once

#include <cstdint>

#include "formats/kv_page.h"

namespace lapidary {

// Pages of one span: 256 tokens, so that a window of 512 is work for three threads; merging then
// costs some 2 % of the sums.
inline constexpr int kSpanPages = 4;

// One side of a page of one K/V head. Float codes: token i lies at data + i * stride elements, and
// all 64 may be read. Packed codes: 64 tokens in the layout of formats/kv_page.h, stride unused; a
// page is packed on both sides or on none.
struct KvSide {
  KvCode code;
  const void* data;
  int64_t stride;
  const KvPageGeometry* geometry = nullptr;  // packed codes
};

// V-only layers (role kBoth): `keys` is not read but for its absence, `values` holds V, packed or
// in bf16, in the basis of to_shared_basis() (kernels/kv_pages.h).
struct KvPage {
  KvSide keys, values;
  // V-only: cosines [n_rotary / 2], then sines, of the page's first position.
  const float* start_angles = nullptr;
  const void* next_keys = nullptr;  // data of the page that comes after, to be fetched meanwhile
};

// How a V-only layer's keys follow from its values: key = RoPE(weight * value).
struct RotaryKeys {
  int n_rotary;          // dims that rotate: the first of the basis, pairs (i, i + n_rotary / 2)
  const float* weights;  // [n_rotary], k_norm's
  const float* cosines;  // [n_rotary / 2, 64]: of positions 0 .. 63
  const float* sines;
};

// Query rows that read the same K/V head: `group` query heads of each of n_tokens tokens. Row
// r = token * group + head. Every token sees [begin[token], end[token]) of the page at hand, within
// 0..64; an empty range leaves its rows as they are, and what a row does not see cannot change it.
struct AttentionTile {
  const float* q;  // row r at q + token * q_stride + head * head_dim: normed, RoPE applied, scaled
  int64_t q_stride;  // elements from token to token
  int n_tokens, group, head_dim;
  const uint8_t* begin;                     // [n_tokens]
  const uint8_t* end;                       // [n_tokens]
  const uint8_t* packed_q = nullptr;        // for packed pages: pack_queries() (kernels/kv_pages.h)
  const RotaryKeys* rotary_keys = nullptr;  // V-only layers
};

// The softmax of each row so far: out = sum of exp(score - max) * value, not yet divided by sum.
struct AttentionState {
  float* max;  // [rows], -infinity at first
  float* sum;  // [rows], 0 at first
  float* out;  // [rows, head_dim], 0 at first
};

}  // namespace lapidary
