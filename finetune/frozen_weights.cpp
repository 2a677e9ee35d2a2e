// Dequantization by panels, products by blocks of tokens.
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
// Tokens one thread multiplies at a time: enough to pay for reading the scratch.
constexpr int64_t kBlockTokens = 128;

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

void FrozenWeights::for_token_blocks(int64_t n_tokens,
                                     const std::function<void(int64_t, int64_t)>& f) {
  parallel((n_tokens + kBlockTokens - 1) / kBlockTokens, [&](int64_t block) {
    const int64_t first = block * kBlockTokens;
    f(first, std::min(kBlockTokens, n_tokens - first));
  });
}

void FrozenWeights::for_rows(const MatrixView& w, const RowsFunction& f) {
  const int64_t row_bytes = w.k * static_cast<int64_t>(sizeof(float));
  const int64_t panels_per_chunk = std::max<int64_t>(1, kScratchBytes / row_bytes / kPanelRows);
  const int64_t chunk_rows = std::min(panels_per_chunk * kPanelRows, w.rows);
  if (!scratch_.defined() || scratch_.numel() < chunk_rows * w.k)
    scratch_ = at::empty({chunk_rows * w.k}, at::kFloat);
  float* out = scratch_.data_ptr<float>();
  for (int64_t first = 0; first < w.rows; first += chunk_rows) {
    const int64_t count = std::min(chunk_rows, w.rows - first);
    pool_.run((count + kPanelRows - 1) / kPanelRows, [&](int64_t panel) {
      const int64_t begin = panel * kPanelRows;
      kernels().dequantize_rows(w, first + begin, std::min<int64_t>(kPanelRows, count - begin),
                                out + begin * w.k);
    });
    f(first, scratch_.narrow(0, 0, count * w.k).view({count, w.k}));
  }
}

at::Tensor FrozenWeights::multiply(const MatrixView& w, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  at::Tensor y = at::empty({x.size(0), w.rows}, at::kFloat);
  for_rows(w, [&](int64_t row, const at::Tensor& rows) {
    for_token_blocks(x.size(0), [&](int64_t first, int64_t count) {
      at::Tensor part = y.narrow(0, first, count).narrow(1, row, rows.size(0));
      at::mm_out(part, x.narrow(0, first, count), rows.t());
    });
  });
  return y;
}

at::Tensor FrozenWeights::multiply_transposed(const MatrixView& w, const at::Tensor& dy) {
  const at::NoGradGuard no_grad;
  at::Tensor dx = at::zeros({dy.size(0), w.k}, at::kFloat);
  for_rows(w, [&](int64_t row, const at::Tensor& rows) {
    for_token_blocks(dy.size(0), [&](int64_t first, int64_t count) {
      dx.narrow(0, first, count)
          .addmm_(dy.narrow(0, first, count).narrow(1, row, rows.size(0)), rows);
    });
  });
  return dx;
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
