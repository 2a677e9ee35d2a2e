// Matrix products of the forward pass: one input, several matrices, one parallel run.
//
// A matrix wants its input in one of three forms: floats as they are (float codes), floats padded
// to 64 and perhaps rotated, or those as int8. Each form of an input is made once, when the first
// matrix asks for it, so q, k, v or gate, up share the work. Work is shared out by panels of 16
// output rows. Adapters are added afterwards, token by token.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "runtime/engine.h"
#include "runtime/workspace.h"

namespace lapidary {

// y[t, :] = W x[t, :] for input rows t in [first, first + n_rows); y is indexed by the same t.
struct Product {
  const MatrixView* w;
  float* y;  // [input rows, w->rows]
  int64_t first = 0;
  int64_t n_rows = -1;  // -1: all
};

class Linear {
 public:
  // Buffers for inputs of at most `n_floats` padded values, `n_rows` rows, and `n_jobs` products.
  Linear(const KernelTable& kernels, ThreadPool& pool, ActivationType activations, int64_t n_floats,
         int64_t n_rows, int64_t n_jobs, int64_t widest_output);

  // All products of one input x [n_rows, k].
  void multiply(const float* x, int64_t n_rows, int64_t k, std::span<const Product> products);
  // The same for the rows of a batch, with each row's adapter.
  void multiply(const float* x, std::span<const Row> rows, int64_t k,
                std::initializer_list<Product> products);

  void reserve_rank(int64_t rank);  // adapter scratch

 private:
  struct Form {  // an input as packed matrices want it, plain or rotated
    bool has_floats = false, has_int8 = false;
    AlignedBuffer<float> floats;
    AlignedBuffer<int8_t> q;
    AlignedBuffer<float> scales;
  };
  struct Job {
    const Product* product;
    int64_t n_panels;
    int64_t first_item;
  };
  void prepare(const MatrixView& w);
  void run_panels(const Product& product, int64_t first_panel, int64_t n_panels);
  void add_adapters(const float* x, std::span<const Row> rows, int64_t k, const Product& product);

  const KernelTable& kernels_;
  ThreadPool& pool_;
  ActivationType activations_;
  Form forms_[2];  // [rotated]
  std::vector<Job> jobs_;
  AlignedBuffer<float> lora_;  // per lane: [rank] of A x, then [widest output] of B (A x)
  int64_t max_rank_ = 0, widest_output_;
  const float* x_ = nullptr;  // the input at hand
  int64_t n_rows_ = 0, k_ = 0;
};

}  // namespace lapidary
