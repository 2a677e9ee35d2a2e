// Products with frozen, possibly packed weights, a few dequantized rows at a time.
//
// The base model stays packed in its mapped file. Rows are dequantized by kernels() into one
// scratch that is reused, so training needs the packed model plus a bounded buffer. Knows no
// layout: any code that kernels() can dequantize can be trained on.
//
// All parallelism of the folder is here: LibTorch runs on one thread (its OpenMP barriers cost more
// than they bring when operations are small or cores are shared), and blocks of tokens are given to
// our own threads. Each block is computed alone, so results do not depend on the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>

#include "formats/packed_matrix.h"
#include "kernels/thread_pool.h"

namespace lapidary {

class FrozenWeights {
 public:
  explicit FrozenWeights(int n_threads) : pool_(n_threads) {}

  // x [n_tokens, w.k] -> x W^T [n_tokens, w.rows]. Float32, no gradient is recorded.
  at::Tensor multiply(const MatrixView& w, const at::Tensor& x);
  // dy [n_tokens, w.rows] -> dy W [n_tokens, w.k].
  at::Tensor multiply_transposed(const MatrixView& w, const at::Tensor& dy);

  // Calls f(first_row, rows) for consecutive runs of rows, rows float32 [count, k] in the scratch:
  // valid during the call only. f must not use this object.
  using RowsFunction = std::function<void(int64_t first_row, const at::Tensor& rows)>;
  void for_rows(const MatrixView& w, const RowsFunction& f);
  // Rows picked by id, float32 [ids.size(), k]. REQUIRES: ids within [0, w.rows).
  at::Tensor gather(const MatrixView& w, std::span<const int32_t> ids);

  // f(i) for i in [0, n) on our threads, without gradients. Rethrows the first exception.
  void parallel(int64_t n, const std::function<void(int64_t)>& f);

 private:
  void for_token_blocks(int64_t n_tokens, const std::function<void(int64_t, int64_t)>& f);

  ThreadPool pool_;
  at::Tensor scratch_;
};

}  // namespace lapidary
