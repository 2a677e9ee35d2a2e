// Products with frozen, possibly packed weights, a few dequantized rows at a time.
//
// The base model stays packed in its mapped file. Rows are dequantized by kernels() into one
// scratch that is reused, so training needs the packed model plus a bounded buffer. Knows no
// layout: any code that kernels() can dequantize can be trained on.
//
// All parallelism of the folder is here: LibTorch runs on one thread (its OpenMP barriers cost more
// than they bring when operations are small or cores are shared), and pieces of work are given to
// our own threads. Each output is computed by one of them, so results do not depend on their
// number.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "finetune/block_product.h"
#include "formats/packed_matrix.h"
#include "kernels/thread_pool.h"

namespace lapidary {

class FrozenWeights {
 public:
  explicit FrozenWeights(int n_threads, Precision precision = Precision::kFloat32)
      : pool_(n_threads), precision_(precision) {}

  // How operands of products are rounded; sums and results are float32 either way.
  Precision precision() const { return precision_; }
  void set_precision(Precision precision) { precision_ = precision; }

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

  // Sees the operands of every product with a frozen matrix in the backward pass: y = x W^T had x
  // [n_tokens, k], and the loss has dy there. None by default.
  using Tap = std::function<void(const MatrixView& w, const at::Tensor& x, const at::Tensor& dy)>;
  void set_tap(Tap tap) { tap_ = std::move(tap); }
  const Tap& tap() const { return tap_; }

  // f(i) for i in [0, n) on our threads, without gradients. Rethrows the first exception.
  void parallel(int64_t n, const std::function<void(int64_t)>& f);
  int n_threads() const { return pool_.n_threads(); }
  // f(first, count) for runs of rows of `width` values: elementwise work in pieces that fit a
  // cache.
  void parallel_rows(int64_t n_rows, int64_t width, const std::function<void(int64_t, int64_t)>& f);

 private:
  enum class Side { kColumns, kRows };  // what a row of W is in the right operand
  void product(const MatrixView& w, const at::Tensor& x, Side side, at::Tensor& y);
  void pack_inputs(const at::Tensor& x, int64_t first, int64_t count);
  void pack_weights(const MatrixView& w, Side side, int64_t first, int64_t count);
  int64_t chunk_rows(const MatrixView& w) const;

  ThreadPool pool_;
  Precision precision_;
  Tap tap_;
  at::Tensor scratch_;                 // of for_rows
  std::vector<uint8_t> left_, right_;  // packed operands
};

}  // namespace lapidary
