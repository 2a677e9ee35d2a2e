// Forms of an input, the parallel run over panels, and LoRA.
#include "runtime/linear.h"

#include <algorithm>

#include "formats/error.h"
#include "runtime/lanes.h"

namespace lapidary {
namespace {

// Panels under one work item. One panel of a narrow matrix is a few microseconds of work, less than
// handing it over costs; four keep the tail of a run short enough on large ones.
constexpr int64_t kPanelsPerItem = 4;

int64_t padded(int64_t k) { return (k + kTileK - 1) / kTileK * kTileK; }
int64_t n_scales(int64_t padded_k) {
  return (padded_k + kActivationBlockK - 1) / kActivationBlockK;
}

MatrixView float_matrix(const std::vector<float>& values, int64_t rows, int64_t k) {
  MatrixView view;
  view.code = Code::kF32;
  view.rows = rows;
  view.k = k;
  view.codes = reinterpret_cast<const uint8_t*>(values.data());
  return view;
}

}  // namespace

Linear::Linear(const KernelTable& kernels, ThreadPool& pool, ActivationType activations,
               int64_t n_floats, int64_t n_rows, int64_t n_jobs, int64_t widest_output)
    : kernels_(kernels), pool_(pool), activations_(activations), widest_output_(widest_output) {
  for (Form& form : forms_) {
    form.floats = AlignedBuffer<float>(n_floats);
    form.q = AlignedBuffer<int8_t>(n_floats);
    // Every row starts its own block, so a row may have one more than its share.
    form.scales = AlignedBuffer<float>(n_floats / kActivationBlockK + n_rows);
  }
  jobs_.reserve(n_jobs);
}

void Linear::multiply(const float* x, int64_t n_rows, int64_t k,
                      std::span<const Product> products) {
  x_ = x;
  n_rows_ = n_rows;
  k_ = k;
  for (Form& form : forms_) form.has_floats = form.has_int8 = false;

  jobs_.clear();
  int64_t n_items = 0;
  for (const Product& product : products) {
    if (product.n_rows == 0) continue;
    LAPIDARY_CHECK(product.w->k == k);
    prepare(*product.w);
    const int64_t panels = n_panels(*product.w);
    jobs_.push_back({&product, panels, n_items});
    n_items += (panels + kPanelsPerItem - 1) / kPanelsPerItem;
  }
  pool_.run(n_items, [&](int64_t item) {
    const auto after =
        std::upper_bound(jobs_.begin(), jobs_.end(), item,
                         [](int64_t i, const Job& job) { return i < job.first_item; });
    const Job& job = *(after - 1);
    const int64_t first = (item - job.first_item) * kPanelsPerItem;
    run_panels(*job.product, first, std::min(kPanelsPerItem, job.n_panels - first));
  });
}

void Linear::multiply(const float* x, std::span<const Row> rows, int64_t k,
                      std::initializer_list<Product> products) {
  multiply(x, static_cast<int64_t>(rows.size()), k,
           std::span<const Product>(products.begin(), products.size()));
  for (const Product& product : products) add_adapters(x, rows, k, product);
}

// Makes the form that `w` wants, unless an earlier matrix of this input had it made.
void Linear::prepare(const MatrixView& w) {
  if (traits(w.code).is_float) return;
  Form& form = forms_[w.rotated];
  const bool want_int8 = activations_ == ActivationType::kInt8;
  const bool make_floats = !form.has_floats, make_int8 = want_int8 && !form.has_int8;
  if (!make_floats && !make_int8) return;
  const int64_t width = padded(k_);
  LAPIDARY_CHECK(n_rows_ * width <= form.floats.size());
  pool_.run(n_rows_, [&](int64_t t) {
    float* row = form.floats.row(t, width);
    if (make_floats) {
      std::copy_n(x_ + t * k_, k_, row);
      std::fill(row + k_, row + width, 0.0f);
      if (w.rotated) kernels_.rotate(row, 1, width);
    }
    if (make_int8)
      kernels_.quantize(row, 1, width, form.q.row(t, width), form.scales.row(t, n_scales(width)));
  });
  form.has_floats = true;
  form.has_int8 = form.has_int8 || want_int8;
}

void Linear::run_panels(const Product& product, int64_t first_panel, int64_t n_panels) {
  const MatrixView& w = *product.w;
  const int64_t first = product.first;
  const int64_t n_rows = product.n_rows < 0 ? n_rows_ : product.n_rows;
  float* y = product.y + first * w.rows;
  if (traits(w.code).is_float) {
    kernels_.matmul_float(w, first_panel, n_panels, x_ + first * k_, k_, n_rows, y, w.rows);
    return;
  }
  Form& form = forms_[w.rotated];
  const int64_t width = padded(k_);
  if (activations_ == ActivationType::k16Bit) {
    kernels_.matmul_float(w, first_panel, n_panels, form.floats.row(first, width), width, n_rows, y,
                          w.rows);
    return;
  }
  const Int8Activations input{form.q.row(first, width), form.scales.row(first, n_scales(width)),
                              width};
  kernels_.matmul_int8(w, first_panel, n_panels, input, n_rows, y, w.rows);
}

void Linear::reserve_rank(int64_t rank) {
  if (rank <= max_rank_) return;
  max_rank_ = rank;
  lora_ = AlignedBuffer<float>((rank + widest_output_) * pool_.n_threads());
}

// y = row_factor * (y + B (A x)) for each row that has an adapter for this matrix. One row at a
// time: a row's sum must not depend on its neighbours, and A and B are small enough to stay in
// cache.
void Linear::add_adapters(const float* x, std::span<const Row> rows, int64_t k,
                          const Product& product) {
  const auto adapted = [&](const Row& row) { return row.adapter && row.adapter->find(*product.w); };
  if (std::none_of(rows.begin(), rows.end(), adapted)) return;
  const int64_t n_out = product.w->rows;
  run_in_lanes(pool_, static_cast<int64_t>(rows.size()), [&](int64_t lane, int64_t t) {
    if (!adapted(rows[t])) return;
    const AdapterMatrix& m = *rows[t].adapter->find(*product.w);
    float* ax = lora_.row(lane, max_rank_ + widest_output_);
    float* bax = ax + max_rank_;
    const MatrixView a = float_matrix(m.a, m.rank, k);
    const MatrixView b = float_matrix(m.b, n_out, m.rank);
    kernels_.matmul_float(a, 0, n_panels(a), x + t * k, k, 1, ax, m.rank);
    kernels_.matmul_float(b, 0, n_panels(b), ax, m.rank, 1, bax, n_out);
    float* y = product.y + t * n_out;
    for (int64_t i = 0; i < n_out; ++i) y[i] += bax[i];
    for (size_t i = 0; i < m.row_factor.size(); ++i) y[i] *= m.row_factor[i];
  });
}

}  // namespace lapidary
