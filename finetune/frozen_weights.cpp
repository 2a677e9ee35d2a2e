// Dequantization by panels, products by blocks of tokens and outputs.
#include "finetune/frozen_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <mutex>

#include "formats/error.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

// Large enough that the matrix product over it is efficient, small beside any model.
constexpr int64_t kScratchBytes = int64_t{16} << 20;
// One piece of a product: 128 tokens by 512 outputs, whose operands fit the second-level cache
// together for k up to a few thousand.
constexpr int64_t kPieceTokens = 128, kPieceColumns = 512;
// Values of one piece of elementwise work.
constexpr int64_t kPieceValues = 32768;

}  // namespace

void FrozenWeights::parallel(int64_t n, const std::function<void(int64_t)>& f) {
  std::mutex mutex;
  std::exception_ptr failure;
  pool_.run(n, [&](int64_t i) {
    // Both belong to the thread: without the first, BLAS would start threads of its own under ours.
    thread_local const bool single_threaded = (at::set_num_threads(1), true);
    (void)single_threaded;
    const at::NoGradGuard no_grad;
    try {
      f(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

void FrozenWeights::parallel_rows(int64_t n_rows, int64_t width,
                                  const std::function<void(int64_t, int64_t)>& f) {
  const int64_t piece = std::max<int64_t>(1, kPieceValues / std::max<int64_t>(width, 1));
  parallel((n_rows + piece - 1) / piece,
           [&](int64_t i) { f(i * piece, std::min(piece, n_rows - i * piece)); });
}

int64_t FrozenWeights::chunk_rows(const MatrixView& w) const {
  const int64_t row_bytes = w.k * static_cast<int64_t>(sizeof(float));
  const int64_t panels = std::max<int64_t>(1, kScratchBytes / row_bytes / kPanelRows);
  return std::min(round_up(panels * kPanelRows, kBlockColumns), w.rows);
}

void FrozenWeights::for_rows(const MatrixView& w, const RowsFunction& f) {
  const int64_t chunk = chunk_rows(w);
  if (!scratch_.defined() || scratch_.numel() < chunk * w.k)
    scratch_ = at::empty({chunk * w.k}, at::kFloat);
  float* out = scratch_.data_ptr<float>();
  for (int64_t first = 0; first < w.rows; first += chunk) {
    const int64_t count = std::min(chunk, w.rows - first);
    pool_.run((count + kPanelRows - 1) / kPanelRows, [&](int64_t panel) {
      const int64_t begin = panel * kPanelRows;
      kernels().dequantize_rows(w, first + begin, std::min<int64_t>(kPanelRows, count - begin),
                                out + begin * w.k);
    });
    f(first, scratch_.narrow(0, 0, count * w.k).view({count, w.k}));
  }
}

// Columns [first, first + count) of x [n_tokens, ld] into left_, [padded tokens, round_up(count,
// 2)].
void FrozenWeights::pack_inputs(const at::Tensor& x, int64_t first, int64_t count) {
  const int64_t size = element_bytes(precision_), ld = x.size(1), lda = round_up(count, 2);
  const auto bytes = static_cast<size_t>(round_up(x.size(0), kRowMultiple) * lda * size);
  left_.resize(std::max(left_.size(), bytes));
  const float* values = x.data_ptr<float>() + first;
  parallel_rows(x.size(0), count, [&](int64_t begin, int64_t n) {
    for (int64_t t = begin; t < begin + n; ++t) {
      uint8_t* row = left_.data() + t * lda * size;
      pack_left(precision_, values + t * ld, count, row);
      std::fill(row + count * size, row + lda * size, uint8_t{0});
    }
  });
}

// Rows [first, first + count) of W into right_: as columns of W^T, or as rows.
void FrozenWeights::pack_weights(const MatrixView& w, Side side, int64_t first, int64_t count) {
  const int64_t k = side == Side::kColumns ? w.k : count;
  const int64_t n = side == Side::kColumns ? count : w.k;
  right_.resize(std::max(right_.size(), static_cast<size_t>(packed_bytes(precision_, k, n))));
  parallel((count + kPanelRows - 1) / kPanelRows, [&](int64_t panel) {
    thread_local std::vector<float> rows;
    rows.resize(std::max(rows.size(), static_cast<size_t>(kPanelRows * w.k)));
    const int64_t begin = panel * kPanelRows;
    const int64_t here = std::min<int64_t>(kPanelRows, count - begin);
    kernels().dequantize_rows(w, first + begin, here, rows.data());
    if (side == Side::kColumns)
      pack_columns(precision_, rows.data(), w.k, here, w.k, k, begin, right_.data());
    else
      pack_rows(precision_, rows.data(), w.k, here, n, k, begin, right_.data());
  });
}

// y = x B with B = W^T or W, one chunk of rows of W after another: each is dequantized and packed
// by all threads, then multiplied by all threads.
void FrozenWeights::product(const MatrixView& w, const at::Tensor& x, Side side, at::Tensor& y) {
  const int64_t padded_tokens = round_up(x.size(0), kRowMultiple), ldc = y.size(1);
  const int64_t chunk = chunk_rows(w);
  for (int64_t first = 0; first < w.rows; first += chunk) {
    const int64_t count = std::min(chunk, w.rows - first);
    const int64_t k = side == Side::kColumns ? w.k : count;
    const int64_t n = side == Side::kColumns ? count : w.k;
    if (side == Side::kRows)
      pack_inputs(x, first, count);
    else if (first == 0)
      pack_inputs(x, 0, k);
    pack_weights(w, side, first, count);
    const int64_t lda = round_up(k, 2), columns = (n + kPieceColumns - 1) / kPieceColumns;
    float* out = y.data_ptr<float>() + (side == Side::kColumns ? first : 0);
    parallel((padded_tokens + kPieceTokens - 1) / kPieceTokens * columns, [&](int64_t item) {
      const int64_t token = item / columns * kPieceTokens, column = item % columns * kPieceColumns;
      multiply_blocks({.precision = precision_,
                       .k = k,
                       .a = left_.data() + token * lda * element_bytes(precision_),
                       .lda = lda,
                       .packed = right_.data(),
                       .c = out + token * ldc,
                       .ldc = ldc,
                       .add = side == Side::kRows && first > 0},
                      std::min(kPieceTokens, padded_tokens - token), column,
                      std::min(kPieceColumns, n - column));
      release_blocks(precision_);
    });
  }
}

at::Tensor FrozenWeights::multiply(const MatrixView& w, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  at::Tensor y = at::empty({round_up(x.size(0), kRowMultiple), w.rows}, at::kFloat);
  product(w, x.contiguous(), Side::kColumns, y);
  return y.narrow(0, 0, x.size(0));
}

at::Tensor FrozenWeights::multiply_transposed(const MatrixView& w, const at::Tensor& dy) {
  const at::NoGradGuard no_grad;
  at::Tensor dx = at::empty({round_up(dy.size(0), kRowMultiple), w.k}, at::kFloat);
  product(w, dy.contiguous(), Side::kRows, dx);
  return dx.narrow(0, 0, dy.size(0));
}

at::Tensor FrozenWeights::gather(const MatrixView& w, std::span<const int32_t> ids) {
  at::Tensor rows = at::empty({static_cast<int64_t>(ids.size()), w.k}, at::kFloat);
  float* out = rows.data_ptr<float>();
  for (size_t i = 0; i < ids.size(); ++i) {
    LAPIDARY_CHECK(ids[i] >= 0 && ids[i] < w.rows);
    kernels().dequantize_rows(w, ids[i], 1, out + static_cast<int64_t>(i) * w.k);
  }
  return rows;
}

}  // namespace lapidary
