// Matrix times activations, scalar, for every code.
//
// A matrix is walked in pieces of 16 rows x 64 k that are decoded once and used by several tokens.
// Float results are sums in double, rounded once. Int8 results are defined to the bit:
//   y = 0; for each scale block, ascending: y += float(sum of products) * (weight scale * x scale)
// in float32 with each operation rounded, so that every instruction set can return the same.
#include <algorithm>

#include "formats/dtype.h"
#include "kernels/panel.h"
#include "kernels/reference.h"
#include "kernels/reference_rotation.h"

namespace lapidary::reference {
namespace {

constexpr int64_t kTokensAtOnce = 8;  // share one decoding; bounds the accumulators on the stack

// w.rows - first_row, at most 16.
int rows_here(const MatrixView& w, int64_t panel) {
  return static_cast<int>(std::min<int64_t>(kPanelRows, w.rows - panel * kPanelRows));
}

float element(const MatrixView& w, int64_t row, int64_t k) {
  const uint8_t* p = w.codes + (row * w.k + k) * (traits(w.code).bits / 8);
  if (w.code == Code::kF32) {
    float value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return w.code == Code::kF16 ? f16_to_float(bits) : bf16_to_float(bits);
}

// 16 rows x up to 64 k as floats; absent rows and k are zero. The product scale * int is exact: 11
// bits times 7.
void piece_of(const MatrixView& w, int64_t panel, int64_t tile, float out[kPanelRows][kTileK]) {
  if (traits(w.code).is_float) {
    std::fill_n(&out[0][0], kPanelRows * kTileK, 0.0f);
    const int64_t n_k = std::min<int64_t>(kTileK, w.k - tile * kTileK);
    for (int row = 0; row < rows_here(w, panel); ++row)
      for (int64_t k = 0; k < n_k; ++k)
        out[row][k] = element(w, panel * kPanelRows + row, tile * kTileK + k);
    return;
  }
  const PackedGeometry g = packed_geometry(w.code, w.rows, w.k);
  const PanelParts parts = panel_parts(w, g, panel);
  const int scale_k = traits(w.code).scale_k;
  int8_t integers[kPanelRows][kTileK];
  decode_tile(g, parts, tile, integers);
  for (int row = 0; row < kPanelRows; ++row)
    for (int k = 0; k < kTileK; ++k)
      out[row][k] =
          panel_scale(w, parts, (tile * kTileK + k) / scale_k, row) * float(integers[row][k]);
}

}  // namespace

void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                  int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  const int64_t width = padded_k(w);
  float piece[kPanelRows][kTileK];
  for (int64_t panel = first_panel; panel < first_panel + n_panels; ++panel)
    for (int64_t t0 = 0; t0 < n_tokens; t0 += kTokensAtOnce) {
      const int64_t n_here = std::min(kTokensAtOnce, n_tokens - t0);
      double sums[kTokensAtOnce][kPanelRows] = {};
      for (int64_t k0 = 0; k0 < width; k0 += kTileK) {
        const int64_t n_k = std::min<int64_t>(kTileK, width - k0);
        piece_of(w, panel, k0 / kTileK, piece);
        for (int64_t t = 0; t < n_here; ++t)
          for (int row = 0; row < kPanelRows; ++row)
            for (int64_t k = 0; k < n_k; ++k)
              sums[t][row] += double{piece[row][k]} * x[(t0 + t) * ldx + k0 + k];
      }
      for (int64_t t = 0; t < n_here; ++t)
        for (int row = 0; row < rows_here(w, panel); ++row)
          y[(t0 + t) * ldy + panel * kPanelRows + row] = static_cast<float>(sums[t][row]);
    }
}

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  const PackedGeometry g = packed_geometry(w.code, w.rows, w.k);
  const int64_t scale_k = traits(w.code).scale_k;
  int8_t integers[kPanelRows][kTileK];
  for (int64_t panel = first_panel; panel < first_panel + n_panels; ++panel) {
    const PanelParts parts = panel_parts(w, g, panel);
    for (int64_t t0 = 0; t0 < n_tokens; t0 += kTokensAtOnce) {
      const int64_t n_here = std::min(kTokensAtOnce, n_tokens - t0);
      float sums[kTokensAtOnce][kPanelRows] = {};
      int32_t block_sums[kTokensAtOnce][kPanelRows] = {};
      for (int64_t k = 0; k < g.padded_k; ++k) {
        if (k % kTileK == 0) decode_tile(g, parts, k / kTileK, integers);
        for (int64_t t = 0; t < n_here; ++t)
          for (int row = 0; row < kPanelRows; ++row)
            block_sums[t][row] += integers[row][k % kTileK] * x.q[(t0 + t) * x.padded_k + k];
        if ((k + 1) % scale_k != 0 && k + 1 != g.padded_k) continue;
        for (int64_t t = 0; t < n_here; ++t)
          for (int row = 0; row < kPanelRows; ++row) {
            const float scale = panel_scale(w, parts, k / scale_k, row) *
                                x.scales[(t0 + t) * g.n_scale_blocks + k / scale_k];
            sums[t][row] += static_cast<float>(block_sums[t][row]) * scale;
            block_sums[t][row] = 0;
          }
      }
      for (int64_t t = 0; t < n_here; ++t)
        for (int row = 0; row < rows_here(w, panel); ++row)
          y[(t0 + t) * ldy + panel * kPanelRows + row] = sums[t][row];
    }
  }
}

void add_outer_products(const float* a, const float* b, int64_t n_k, float* c,
                        int64_t ldc) noexcept {
  for (int64_t first = 0; first < n_k; first += kOuterPiece)
    for (int i = 0; i < kOuterTile; ++i)
      for (int j = 0; j < kOuterTile; ++j) {
        double sum = 0;
        for (int64_t k = first; k < std::min(first + kOuterPiece, n_k); ++k)
          sum += double{a[k * kOuterTile + i]} * b[k * kOuterTile + j];
        c[i * ldc + j] += static_cast<float>(sum);
      }
}

void dequantize_rows(const MatrixView& w, int64_t first, int64_t count, float* out) noexcept {
  float piece[kPanelRows][kTileK];
  for (int64_t panel = first / kPanelRows; panel * kPanelRows < first + count; ++panel)
    for (int64_t k0 = 0; k0 < w.k; k0 += kTileK) {
      piece_of(w, panel, k0 / kTileK, piece);
      const int64_t begin = std::max(first, panel * kPanelRows);
      const int64_t end = std::min(first + count, (panel + 1) * kPanelRows);
      for (int64_t row = begin; row < end; ++row) {
        float* block = piece[row % kPanelRows];
        if (w.rotated) {
          walsh_hadamard_64(block);
          apply_rotation_signs(block);
        }
        std::copy_n(block, std::min<int64_t>(kTileK, w.k - k0), out + (row - first) * w.k + k0);
      }
    }
}

}  // namespace lapidary::reference
