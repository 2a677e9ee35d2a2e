// The AVX2 functions behind their table, by file. Contracts: kernels/kernels.h.
//
// Straightforward vector code: every floating-point sum has a fixed shape (8 lanes over ascending
// k, folded in a fixed tree, once per 256 inputs), the same for any number of tokens and rows.
#pragma once

#include "kernels/kernels.h"
#include "kernels/panel.h"

namespace lapidary::avx2 {

// avx2_activations.cpp
void rotate(float* x, int64_t n_tokens, int64_t padded_k) noexcept;
void quantize(const float* x, int64_t n_tokens, int64_t padded_k, int64_t scale_k, int8_t* q,
              float* scales, int32_t* sums) noexcept;

// avx2_rounding.cpp
void round_rows(Code code, bool has_multipliers, const float* x, int64_t ldx, int n,
                RoundedRows* out) noexcept;

// avx2_trellis_search.cpp
void search_trellis(int bits, int n, const float* x, const float* w, float* scratch,
                    uint8_t* symbols) noexcept;

// avx2_group_fit.cpp
void fit_symmetric(const ValueGroups& groups, int low, int high, float* scales) noexcept;
void fit_affine(const ValueGroups& groups, int high, float* scales, float* minima) noexcept;
void fit_iq4(const ValueGroups& groups, float* scales) noexcept;

// avx2_matmul_float.cpp, avx2_matmul_int8.cpp
void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                  int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept;
void add_outer_products(const float* a, const float* b, int64_t n_k, float* c,
                        int64_t ldc) noexcept;
void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept;

// avx2_dequantize.cpp
void dequantize_rows(const MatrixView& w, int64_t first, int64_t count, float* out) noexcept;
// One tile of a packed panel as floats: out[row * stride + k], 16 rows x 64 k.
void expand_tile(const MatrixView& w, const PackedGeometry& g, const PanelParts& parts,
                 int64_t tile, float* out, int64_t stride) noexcept;

// avx2_elementwise.cpp
void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
              int64_t width, float* out) noexcept;
void rope(float* x, const float* cos, const float* sin, int n_heads, int head_dim) noexcept;
void gelu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept;
void silu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept;
void add(float* x, const float* y, float factor, int64_t n) noexcept;
void softcap(float* x, int64_t n, float cap) noexcept;
void float_to_bf16(const float* x, int64_t n, uint16_t* out) noexcept;

// avx2_kv.cpp
void kv_rotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept;
void kv_unrotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept;
KvSums choose_kv_levels(KvCode code, const float* x, int n, int n_dims, uint8_t* indices) noexcept;
uint16_t quantize_kv(const float* x, int n, int8_t* levels) noexcept;
float split_query(const float* q, int n, int8_t* high, int8_t* low) noexcept;

// avx2_kv_attention.cpp
void attend_packed_page(const KvPage& page, const AttentionTile& tile,
                        const AttentionState& state) noexcept;

// avx2_attention.cpp
void attend_page(const KvPage& page, const AttentionTile& tile,
                 const AttentionState& state) noexcept;
void merge_attention(const AttentionState& part, int64_t n_rows, int head_dim,
                     const AttentionState& total) noexcept;
void finish_attention(const AttentionState& state, const AttentionTile& tile, float* out) noexcept;

}  // namespace lapidary::avx2
