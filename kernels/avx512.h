// The AVX-512 functions behind their table, by file. Contracts: kernels/kernels.h.
//
// Needs F, BW, DQ, VL, VNNI and VBMI (Ice Lake, Zen 4 and later). Every floating-point sum has a
// fixed shape, the same for any number of tokens and rows.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::avx512 {

// avx512_activations.cpp
void rotate(float* x, int64_t n_tokens, int64_t padded_k) noexcept;
void quantize(const float* x, int64_t n_tokens, int64_t padded_k, int64_t scale_k, int8_t* q,
              float* scales, int32_t* sums) noexcept;

// avx512_rounding.cpp
void round_rows(Code code, bool has_multipliers, const float* x, int64_t ldx, int n,
                RoundedRows* out) noexcept;

// avx512_trellis_search.cpp
void search_trellis(int bits, int n, const float* x, const float* w, float* scratch,
                    uint8_t* symbols) noexcept;

// avx512_group_fit.cpp
void fit_symmetric(const ValueGroups& groups, int low, int high, float* scales) noexcept;
void fit_affine(const ValueGroups& groups, int high, float* scales, float* minima) noexcept;
void fit_iq4(const ValueGroups& groups, float* scales) noexcept;

// avx512_matmul_float.cpp, avx512_matmul_int8.cpp
void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                  int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept;
void add_outer_products(const float* a, const float* b, int64_t n_k, float* c,
                        int64_t ldc) noexcept;
void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept;

// avx512_elementwise.cpp
void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
              int64_t width, float* out) noexcept;
void gelu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept;
void silu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept;
void add(float* x, const float* y, float factor, int64_t n) noexcept;
void softcap(float* x, int64_t n, float cap) noexcept;

// avx512_kv.cpp
void kv_rotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept;
void kv_unrotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept;
KvSums choose_kv_levels(KvCode code, const float* x, int n, int n_dims, uint8_t* indices) noexcept;
uint16_t quantize_kv(const float* x, int n, int8_t* levels) noexcept;
float split_query(const float* q, int n, int8_t* high, int8_t* low) noexcept;

// avx512_kv_attention.cpp
void attend_packed_page(const KvPage& page, const AttentionTile& tile,
                        const AttentionState& state) noexcept;

// avx512_attention.cpp
void attend_page(const KvPage& page, const AttentionTile& tile,
                 const AttentionState& state) noexcept;
void merge_attention(const AttentionState& part, int64_t n_rows, int head_dim,
                     const AttentionState& total) noexcept;
void finish_attention(const AttentionState& state, const AttentionTile& tile, float* out) noexcept;

}  // namespace lapidary::avx512
