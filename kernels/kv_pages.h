// What stands around attention on packed pages: packing a page, preparing queries, the basis of
// V-only layers. Made of the table's functions; where bits lie is formats/kv_page.h's business.
//
// Separate K and V: rotate both (kv_rotate) before they are rounded to 16 bits, rotate q the same
// way once RoPE and scale are applied, and the attention output back (kv_unrotate). Exact pages
// then hold rotated K and V too, so that one q serves both kinds of pages.
//
// V-only layers (k_eq_v: K = RoPE(w_k * V)): V goes to the shared basis before it is rounded, q to
// it by query_to_shared_basis after RoPE and scale, the output back by from_shared_basis. K is
// rebuilt inside attend_page. The basis has the rotary dims first, unmixed, because RoPE does not
// commute with a rotation across frequencies; the other dims are rotated like a head of their own.
#pragma once

#include "kernels/kernels.h"

namespace lapidary {

// Packs 64 tokens of one head, bf16, token i at rows + i * stride, into page [geometry.bytes].
// Keys, and values that also serve as keys, get the gain that makes q.k unbiased, |x|^2 / <x, c>;
// values alone the least-squares gain <x, c> / <c, c> (Vargaftik et al., «EDEN», arXiv 2108.08842).
// The same bytes from every table. A vector with infinity or NaN in it gets a scale of NaN.
void pack_kv_page(const KernelTable& kernels, const KvPageGeometry& geometry, const uint16_t* rows,
                  int64_t stride, uint8_t* page) noexcept;

// A tile's rows as attend_page wants them on packed pages with these keys (of V-only layers: with
// these values): int8 in two planes. Depends on the role, the code and the sizes only, so rows
// packed once serve all pages of a layer.
//   row: high [width], low [width], float scale, int32 sums[n_blocks][2]; q = scale * (high + low /
//   254); width = geometry.padded_dim; sums: of high and of low over each block
struct PackedQuery {
  const int8_t* high;
  const int8_t* low;
  float scale;
  const int32_t* sums;
};
int64_t packed_query_bytes(const KvPageGeometry& keys);  // of one row, a multiple of 64
void pack_queries(const KernelTable& kernels, const KvPageGeometry& keys, const AttentionTile& tile,
                  uint8_t* out) noexcept;
PackedQuery packed_query(const KvPageGeometry& keys, const uint8_t* rows, int64_t row);

// V-only layers: x [n_vectors, head_dim] in place. Rotary dims are the pairs (i, i + head_dim / 2),
// i < n_rotary / 2; they become dims i and n_rotary / 2 + i.
void to_shared_basis(const KernelTable& kernels, float* x, int64_t n_vectors, int head_dim,
                     int n_rotary) noexcept;
void from_shared_basis(const KernelTable& kernels, float* x, int64_t n_vectors, int head_dim,
                       int n_rotary) noexcept;
// The same for q; w_k [head_dim] in the model's order, k_norm's weights (offset included).
void query_to_shared_basis(const KernelTable& kernels, float* q, int64_t n_vectors, int head_dim,
                           int n_rotary, const float* w_k) noexcept;
// w_k's rotary part in the order of the basis, for RotaryKeys: out [n_rotary].
void rotary_weights(const float* w_k, int head_dim, int n_rotary, float* out) noexcept;

}  // namespace lapidary
