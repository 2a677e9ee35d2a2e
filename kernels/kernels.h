// The kernel table: one function per operation, one table per instruction set.
//
// kernels/reference.cpp defines what is correct; every other file must give the same integers and,
// for floats, agree within a bound its test derives. All functions are noexcept, allocate nothing
// and check nothing beyond LAPIDARY_CHECK: callers have validated shapes. Each output element is
// computed in an order that depends only on the shapes of one row, never on how many tokens or rows
// a call has: that is what makes logits bit-identical for any chunking, batch and thread count on
// one table.
//
// Activations are float32 row-major [n_tokens, k]. Strides are in elements.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/packed_matrix.h"
#include "kernels/attention.h"
#include "kernels/group_fit.h"
#include "kernels/rounding.h"

namespace lapidary {

enum class Isa : uint8_t { kReference = 0, kAvx2 = 1, kAvx2Vnni = 2, kAvx512 = 3, kAmx = 4 };

inline constexpr int kOuterTile = 64;   // rows and columns that add_outer_products adds to
inline constexpr int kOuterPiece = 64;  // k that it sums before it adds

// Int8 activations of a few tokens: q [n_tokens, padded_k] within -127..127, padded_k a multiple of
// 64, padding zero. They have a scale where the weights they meet have one, so that finer ones cost
// no further sums: scales [n_tokens, ceil(padded_k / scale_k)], scale_k that of the weights' code.
// sums [n_tokens, padded_k / 32]: of each 32 values of q, which products of weights that are stored
// unsigned take off (vnni_matmul.h), and which every product would otherwise add up again.
struct Int8Activations {
  const int8_t* q;
  const float* scales;
  const int32_t* sums;
  int64_t padded_k;
};

// Sums over one vector x with levels c, in 16 lanes over ascending i, folded by halves.
struct KvSums {
  float square;  // x^2
  float dot;     // x * c
};

struct KernelTable {
  Isa isa;
  std::string_view name;  // "avx2"

  // x[n_tokens, padded_k] *= signs, then orthonormal Walsh-Hadamard per 64, in place. Bit-equal in
  // every table: butterflies at distance 1, 2, 4, ..., 32, then times 1/8.
  void (*rotate)(float* x, int64_t n_tokens, int64_t padded_k) noexcept;
  // Symmetric int8 per token and scale_k inputs, a multiple of 32: scale = absmax / 127,
  // q = round-half-even(x / scale), sums as in Int8Activations. Bit-equal in every table. A block
  // that holds infinity or NaN gets that as its scale, and q = 0.
  void (*quantize)(const float* x, int64_t n_tokens, int64_t padded_k, int64_t scale_k, int8_t* q,
                   float* scales, int32_t* sums) noexcept;

  // Rounds one scale block of 16 rows: n <= the code's scale_k values each, rows `ldx` apart.
  // Bit-equal in every table. REQUIRES: a packed code, finite x within largest_weight(code).
  void (*round_rows)(Code code, bool has_multipliers, const float* x, int64_t ldx, int n,
                     RoundedRows* out) noexcept;

  // The ring of n symbols whose levels come nearest to x, in levels' units: the least sum of
  // (w (x - level))^2 that the search of kernels/trellis_search.h finds. scratch:
  // trellis_scratch_floats(bits, n). Bit-equal in every table. REQUIRES: bits 3 to 6, n a multiple
  // of 4 and at most kTrellisMostSteps, finite x and w with costs far below 1e30.
  void (*search_trellis)(int bits, int n, const float* x, const float* w, float* scratch,
                         uint8_t* symbols) noexcept;

  // Scales, and minima >= 0, of least squared error among those that kernels/group_fit.h tries, one
  // per group: x ~ scale * q with q in [low, high], low < 0; x ~ scale * q - minimum with q in
  // [0, high]; x ~ scale * level of IQ4_NL. Bit-equal in every table.
  void (*fit_symmetric)(const ValueGroups& groups, int low, int high, float* scales) noexcept;
  void (*fit_affine)(const ValueGroups& groups, int high, float* scales, float* minima) noexcept;
  void (*fit_iq4)(const ValueGroups& groups, float* scales) noexcept;

  // y[t, r] = sum_k W[r, k] x[t, k] for the rows of panels [first_panel, first_panel + n_panels),
  // of any code; 16 rows are a panel in float codes too. y has stride `ldy` per token and is
  // indexed by absolute row; only logical rows are written. x [n_tokens, ldx]: packed codes read
  // padded_k values per token, zero beyond k and rotated when w.rotated; float codes read k.
  void (*matmul_float)(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                       int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept;
  // The same with int8 activations; packed codes only. Bit-equal in every table: for each scale
  // block (512 inputs in two-level codes, 128 or 32 in the others), ascending,
  //   y += float(exact sum of products) * (weight scale * x scale)   in float32, y = 0 at first.
  void (*matmul_int8)(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                      const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept;

  // c[i * ldc + j] += sum_k a[k * 64 + i] * b[k * 64 + j] for i, j < 64, in pieces of 64 k: each
  // piece's sum is taken over ascending k in float32, then added to c. a and b [n_k, 64], c 64-byte
  // aligned or not.
  void (*add_outer_products)(const float* a, const float* b, int64_t n_k, float* c,
                             int64_t ldc) noexcept;

  // Rows [first, first + count) as float32 [count, k], rotation undone.
  void (*dequantize_rows)(const MatrixView& w, int64_t first, int64_t count, float* out) noexcept;

  // out = x * rsqrt(mean(x^2) + eps) * (w + offset); w null: weightless. In place allowed.
  void (*rms_norm)(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
                   int64_t width, float* out) noexcept;
  // Half-split rotary embedding in place, x [n_heads, head_dim] of one token, cos and sin
  // [head_dim / 2]. Bit-equal in every table.
  void (*rope)(float* x, const float* cos, const float* sin, int n_heads, int head_dim) noexcept;
  // out = activation(gate) * up.
  void (*gelu_mul)(const float* gate, const float* up, int64_t n, float* out) noexcept;
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out) noexcept;
  // Takes one page into the running softmax of the tile's rows: score = q.k over the keys a row
  // sees, out = out * exp(old max - new max) + sum of exp(score - new max) * value, keys ascending.
  // K and V may differ in code. A row's result does not depend on the other rows of the tile.
  void (*attend_page)(const KvPage& page, const AttentionTile& tile,
                      const AttentionState& state) noexcept;
  // Adds the sums of later pages to those of earlier ones, row by row. A row that has seen nothing
  // yet becomes the part; a part that has seen nothing changes nothing.
  void (*merge_attention)(const AttentionState& part, int64_t n_rows, int head_dim,
                          const AttentionState& total) noexcept;
  // out = state.out / state.sum, laid out as tile.q.
  void (*finish_attention)(const AttentionState& state, const AttentionTile& tile,
                           float* out) noexcept;

  // KV-cache codes; see kernels/kv_pages.h. All four are bit-equal in every table.
  // x [n_vectors, stride], n values each: multiplied by an orthonormal signed Walsh-Hadamard matrix
  // in place, and by its transpose. n is a power of two, or two overlapping powers cover it.
  void (*kv_rotate)(float* x, int64_t n_vectors, int64_t stride, int n) noexcept;
  void (*kv_unrotate)(float* x, int64_t n_vectors, int64_t stride, int n) noexcept;
  // Nearest levels of one vector at 3 to 5 bits, its deviation taken as sqrt(sum x^2 / n_dims);
  // x [n], finite, n a multiple of 32, zero where padded. indices [n]; at 3 bits the pairs are
  // (x[i], x[i + 16]) of each 32 and both get the pair's index.
  KvSums (*choose_kv_levels)(KvCode code, const float* x, int n, int n_dims,
                             uint8_t* indices) noexcept;
  // Symmetric int8, scale = fp16(128 absmax / 127): levels [n]. Returns the scale's bits.
  uint16_t (*quantize_kv)(const float* x, int n, int8_t* levels) noexcept;
  // q = scale * (high + low / 254) with scale = absmax / 127; n a multiple of 16. Returns scale.
  float (*split_query)(const float* q, int n, int8_t* high, int8_t* low) noexcept;

  // x = (x + y) * factor. Bit-equal in every table.
  void (*add)(float* x, const float* y, float factor, int64_t n) noexcept;
  // x = cap * tanh(x / cap).
  void (*softcap)(float* x, int64_t n, float cap) noexcept;
  void (*float_to_bf16)(const float* x, int64_t n, uint16_t* out) noexcept;
};

// The best table this machine runs, capped by the environment's LAPIDARY_ISA (reference, avx2,
// avx2vnni, avx512, amx). Chosen once. Throws kUsage for an unknown name.
const KernelTable& kernels();
// The best table this machine runs among those up to the named one; throws the same.
const KernelTable& kernels_up_to(std::string_view cap);
// All tables this machine can run, the reference first: for tests.
std::vector<const KernelTable*> available_kernels();

// Rows [first, first + count) of a matrix. REQUIRES: a float code, or first a multiple of 16.
MatrixView rows_of(const MatrixView& w, int64_t first, int64_t count);

inline int64_t n_panels(const MatrixView& w) { return (w.rows + kPanelRows - 1) / kPanelRows; }
inline int64_t padded_k(const MatrixView& w) {
  return traits(w.code).is_float ? w.k : (w.k + kTileK - 1) / kTileK * kTileK;
}

}  // namespace lapidary
