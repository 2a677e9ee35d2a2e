// Matrix products of the forward pass: one input, several matrices, one parallel run.
//
// A matrix wants its input in one of three forms: floats as they are (float codes), floats padded
// to 64 and perhaps rotated, or those as int8, with a scale wherever its code has one. Each form is
// made once for all matrices of an input,
// row by row, by the thread that makes the row: whatever comes before (a norm, a residual sum) runs
// in the same pass. Work is shared out by panels of 16 output rows; a gated product (MLP) has the
// rows of gate and up that belong together in one work item and activates them there. Adapters are
// added afterwards, token by token.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "runtime/engine.h"
#include "runtime/workspace.h"

namespace lapidary {

// The second half of a gated product: rows [first_row, first_row + width) of `w`.
struct UpRows {
  const MatrixView* w = nullptr;
  int64_t first_row = 0, width = 0;
};

// y[t, :] = W x[t, :] for input rows t in [first, first + n_rows); y is indexed by the same t.
// Gated: y[t, :] = activation(gate x[t, :]) * (up x[t, :]), where gate is the first up.width rows
// of W.
struct Product {
  const MatrixView* w;
  float* y;  // [input rows, width()]
  int64_t first = 0;
  int64_t n_rows = -1;  // -1: all
  UpRows up{};
  int64_t ldy = 0;  // of y, where its rows are longer; 0: width(). REQUIRES 0 if gated
  int64_t width() const { return up.w ? up.width : w->rows; }
  int64_t stride() const { return ldy > 0 ? ldy : width(); }
};

using GatedActivation = decltype(KernelTable::gelu_mul);

// Sees every input before its products are computed: x [rows, k], float32, and the products that
// share it, each over its rows. On the caller's thread.
using ProductTap = std::function<void(std::span<const Product>, const float* x, int64_t k)>;

// What packed matrices take of an input.
enum class InputBits : uint8_t {
  k8,       // int8
  kTwice8,  // two int8 rows whose sum holds 16 bits: twice the products of one reading of weights
  kFloat
};
inline InputBits bits_of(ActivationType activations) {
  return activations == ActivationType::kInt8 ? InputBits::k8 : InputBits::kFloat;
}

struct LinearSizes {
  int64_t n_floats = 0;       // padded values of the largest input
  int64_t n_rows = 0;         // rows of the longest input
  int64_t n_products = 4;     // of one input
  int64_t widest_output = 0;  // of one product
};

class Linear {
 public:
  Linear(const KernelTable& kernels, ThreadPool& pool, InputBits bits, GatedActivation gated,
         const LinearSizes& sizes);

  // All products of one input x [n, k] of a batch, with each row's adapter. make_row(t) writes row
  // t of x first. REQUIRES: no row has an adapter for the matrices of a gated product.
  template <class MakeRow>
  void multiply(const float* x, std::span<const Row> rows, int64_t k,
                std::initializer_list<Product> products, MakeRow make_row) {
    const std::span<const Product> all(products.begin(), products.size());
    begin(x, static_cast<int64_t>(rows.size()), k, all);
    each_row(n_rows_, [&](int64_t t) {
      make_row(t);
      prepare_row(t);
    });
    run(all);
    for (const Product& product : all) add_adapters(rows, product);
  }
  void multiply(const float* x, std::span<const Row> rows, int64_t k,
                std::initializer_list<Product> products) {
    multiply(x, rows, k, products, [](int64_t) {});
  }

  // The same in steps, without adapters: begin, then prepare_row or repeat_row for every row of x,
  // by any thread, then run.
  void begin(const float* x, int64_t n_rows, int64_t k, std::span<const Product> products);
  void prepare_row(int64_t t);
  void repeat_row(int64_t from, int64_t to);  // x[to] is x[from], which is prepared
  void run(std::span<const Product> products);
  // Instead of run, by any thread: panels of `w` times n_rows prepared rows from first_row on; y is
  // the first one's output.
  void run_rows(const MatrixView& w, int64_t first_panel, int64_t n_panels, int64_t first_row,
                int64_t n_rows, float* y, int64_t ldy);
  bool reads_floats() const { return reads_floats_; }  // somebody reads x itself

  // f(t) for each of n rows of the input at hand; in parallel unless that would cost more.
  template <class F>
  void each_row(int64_t n, F&& f) {
    if (n * k_ > kSerialFloats)
      pool_.run(n, f);
    else
      for (int64_t t = 0; t < n; ++t) f(t);
  }

  bool any_adapted(std::span<const Row> rows, const MatrixView& w) const;
  // Adds the adapters of the product's own rows; `rows` are those of the input at hand. After run;
  // multiply() does it itself. REQUIRES: x holds floats for rows with an adapter for product.w.
  void add_adapters(std::span<const Row> rows, const Product& product);
  void reserve_rank(int64_t rank);  // adapter scratch
  void set_tap(ProductTap tap) { tap_ = std::move(tap); }

 private:
  // Preparing this much takes a few microseconds, as handing it over would.
  static constexpr int64_t kSerialFloats = 8192;

  struct Form {  // an input as packed matrices want it
    bool rotated, wanted = false;
    int64_t scale_k;
    AlignedBuffer<float> floats;
    AlignedBuffer<int8_t> q;
    AlignedBuffer<float> scales;
    AlignedBuffer<int32_t> sums;  // of q, as Int8Activations wants them
  };
  struct Job {
    const Product* product;
    int64_t n_panels;
    int64_t first_item;
  };
  Form& form_for(const MatrixView& w);
  void quantize_row(const float* x, Form& form, int64_t t) const;
  int64_t n_scales(const Form& form) const;  // of one int8 row
  int64_t n_sums() const { return width_ / kGroupK; }
  void run_twice(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_rows, float* y, int64_t ldy);
  void run_panels(const Product& product, int64_t first_panel, int64_t n_panels);
  void run_gated(const Product& product, int64_t first_panel, int64_t n_panels);

  const KernelTable& kernels_;
  ThreadPool& pool_;
  InputBits bits_;
  GatedActivation gated_;
  std::array<Form, 6> forms_;  // plain and rotated, with each scale_k; floats: without
  bool reads_floats_ = false;
  std::vector<Job> jobs_;
  AlignedBuffer<float> lora_;  // per lane: [rank] of A x, then [widest output] of B (A x)
  int64_t max_rank_ = 0, widest_output_;
  ProductTap tap_;
  const float* x_ = nullptr;  // the input at hand
  int64_t n_rows_ = 0, k_ = 0, width_ = 0;
};

}  // namespace lapidary
