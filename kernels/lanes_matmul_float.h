// y = W x with float activations, for every code: one algorithm for vectors of 8 and 16 lanes. A
// file compiled for such an instruction set includes this with its vector type V (avx2_lanes.h,
// avx512_lanes.h).
//
// One panel and V::kBlockK inputs at a time: the weights are either read where they lie, or, when
// they are packed or several tokens share a conversion from 16 bits, expanded once to float32 in
// L1. Then blocks of rows x tokens are multiplied, each output in one register over ascending k,
// folded and added to y once per block. That shape is the same for any number of tokens.
#pragma once

#include "kernels/kernels.h"
#include "kernels/panel.h"

namespace lapidary::lanes {

// With fewer tokens than this a conversion on the fly is cheaper than one through memory.
inline constexpr int64_t kTokensWorthExpanding = 4;
// Tokens handled together: their inputs stay in L2 from panel to panel.
inline constexpr int64_t kTileTokens = 64;

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

// Where the 16 rows of the current piece start. Absent rows repeat the last one.
template <class T>
struct PanelRows {
  const T* row[kPanelRows];
};

// The outputs that a piece adds to.
struct Output {
  float* y;  // of token 0, row 0 of the panel
  int64_t ldy;
  int n_rows;
  bool first_piece;  // y is to be written, not added to
};

static inline void add_four(const Output& out, int64_t token, int row, __m128 sums) {
  float* y = out.y + token * out.ldy + row;
  if (row + 4 <= out.n_rows) {
    _mm_storeu_ps(y, out.first_piece ? sums : _mm_add_ps(_mm_loadu_ps(y), sums));
    return;
  }
  float values[4];
  _mm_storeu_ps(values, sums);
  for (int i = 0; row + i < out.n_rows; ++i) y[i] = out.first_piece ? values[i] : y[i] + values[i];
}

// Rows row .. row + Rows - 1 times tokens token .. token + Tokens - 1.
template <class V, int Rows, int Tokens, class T>
static void multiply_block(const PanelRows<T>& w, int row, const float* x, int64_t ldx,
                           int64_t token, int64_t n_k, const Output& out) {
  typename V::Floats sum[Tokens][Rows] = {};
  const float* input = x + token * ldx;
  const int64_t whole = n_k / V::kLanes * V::kLanes;
  for (int64_t k = 0; k < whole; k += V::kLanes) {
    typename V::Floats weight[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      weight[r] = V::load(w.row[row + r] + k);
      if (Tokens <= 2)  // the memory is the limit: fetch the rows' next block
        _mm_prefetch(reinterpret_cast<const char*>(w.row[row + r] + k + V::kBlockK), _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const auto v = V::load(input + t * ldx + k);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) sum[t][r] = V::multiply_add(weight[r], v, sum[t][r]);
    }
  }
  if (whole < n_k) {
    for (int t = 0; t < Tokens; ++t) {
      const auto v = V::load_partial(input + t * ldx + whole, n_k - whole);
      for (int r = 0; r < Rows; ++r)
        sum[t][r] =
            V::multiply_add(V::load_partial(w.row[row + r] + whole, n_k - whole), v, sum[t][r]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int r = 0; r < Rows; r += 4)
      add_four(out, token + t, row + r,
               V::fold4(sum[t][r], sum[t][r + 1], sum[t][r + 2], sum[t][r + 3]));
}

// All rows of the panel times all tokens, over n_k <= V::kBlockK inputs starting at x.
template <class V, class T>
static void multiply_piece(const PanelRows<T>& w, const float* x, int64_t ldx, int64_t n_tokens,
                           int64_t n_k, const Output& out) {
  int64_t token = 0;
  for (; token + V::kTokensAtOnce <= n_tokens; token += V::kTokensAtOnce)
    for (int row = 0; row < out.n_rows; row += 4)
      multiply_block<V, 4, V::kTokensAtOnce>(w, row, x, ldx, token, n_k, out);
  for (; token + 2 <= n_tokens; token += 2)
    for (int row = 0; row < out.n_rows; row += 4)
      multiply_block<V, 4, 2>(w, row, x, ldx, token, n_k, out);
  if (token < n_tokens)
    for (int row = 0; row < out.n_rows; row += 8)
      multiply_block<V, 8, 1>(w, row, x, ldx, token, n_k, out);
}

namespace {  // each file its own: its functions must not be shared between instruction sets

struct Task {
  const MatrixView& w;
  const float* x;
  int64_t ldx, n_tokens;
  float* y;
  int64_t ldy;
  Output output(int64_t panel, int64_t k0) const {
    const int64_t first_row = panel * kPanelRows;
    return {y + first_row, ldy, static_cast<int>(min(kPanelRows, w.rows - first_row)), k0 == 0};
  }
};

}  // namespace

// A row's stride keeps the rows out of each other's cache sets.
template <class V>
using Piece = float[kPanelRows][V::kBlockK + 16];

template <class V>
static PanelRows<float> rows_of(const Piece<V>& piece) {
  PanelRows<float> rows;
  for (int r = 0; r < kPanelRows; ++r) rows.row[r] = piece[r];
  return rows;
}

template <class V, class T>
static void multiply_float_panel(const Task& task, int64_t panel) {
  const MatrixView& w = task.w;
  alignas(64) Piece<V> piece;
  for (int64_t k0 = 0; k0 < w.k; k0 += V::kBlockK) {
    const Output out = task.output(panel, k0);
    const int64_t n_k = min(V::kBlockK, w.k - k0);
    PanelRows<T> rows;
    for (int r = 0; r < kPanelRows; ++r)
      rows.row[r] = reinterpret_cast<const T*>(w.codes) +
                    (panel * kPanelRows + min(r, out.n_rows - 1)) * w.k + k0;
    if (sizeof(T) == sizeof(float) || task.n_tokens < kTokensWorthExpanding) {
      multiply_piece<V>(rows, task.x + k0, task.ldx, task.n_tokens, n_k, out);
      continue;
    }
    for (int r = 0; r < kPanelRows; ++r) {
      int64_t k = 0;
      for (; k + V::kLanes <= n_k; k += V::kLanes) V::store(piece[r] + k, V::load(rows.row[r] + k));
      if (k < n_k) V::store(piece[r] + k, V::load_partial(rows.row[r] + k, n_k - k));
    }
    multiply_piece<V>(rows_of<V>(piece), task.x + k0, task.ldx, task.n_tokens, n_k, out);
  }
}

template <class V>
static void multiply_packed_panel(const Task& task, int64_t panel) {
  const PackedGeometry g = packed_geometry(task.w.code, task.w.rows, task.w.k);
  const PanelParts parts = panel_parts(task.w, g, panel);
  alignas(64) Piece<V> piece;
  for (int64_t k0 = 0; k0 < g.padded_k; k0 += V::kBlockK) {
    const int64_t n_k = min(V::kBlockK, g.padded_k - k0);
    for (int64_t k = 0; k < n_k; k += kTileK)
      V::expand_tile(task.w, g, parts, (k0 + k) / kTileK, piece[0] + k, V::kBlockK + 16);
    multiply_piece<V>(rows_of<V>(piece), task.x + k0, task.ldx, task.n_tokens, n_k,
                      task.output(panel, k0));
  }
}

// kernels.h, matmul_float.
template <class V>
static void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                         int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) {
  for (int64_t token = 0; token < n_tokens; token += kTileTokens) {
    const Task task{w,  x + token * ldx, ldx, min(kTileTokens, n_tokens - token), y + token * ldy,
                    ldy};
    for (int64_t panel = first_panel; panel < first_panel + n_panels; ++panel) {
      if (w.code == Code::kF32)
        multiply_float_panel<V, float>(task, panel);
      else if (w.code == Code::kF16)
        multiply_float_panel<V, typename V::Half>(task, panel);
      else if (w.code == Code::kBF16)
        multiply_float_panel<V, typename V::Brain>(task, panel);
      else
        multiply_packed_panel<V>(task, panel);
    }
  }
}

}  // namespace lapidary::lanes
