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
constexpr int64_t kRowsPerItem = kPanelsPerItem * kPanelRows;
// Tokens whose gate and up outputs lie in L2 until they are activated: 144 KiB. A multiple of what
// the matrix kernels handle together.
constexpr int64_t kGatedTokens = 256;
// Tokens whose lines of a gated product's result are on their way while others are activated.
constexpr int64_t kWritesAhead = 8;
// Tokens whose two rows lie in L1 until they are added: 16 KiB.
constexpr int64_t kTwiceTokens = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t padded(int64_t k) { return ceil_div(k, kTileK) * kTileK; }
// The scale_k of all codes.
constexpr int64_t kScaleKs[] = {512, 128, 32};
constexpr int64_t kWidestScaleK = kScaleKs[0];

MatrixView float_matrix(const std::vector<float>& values, int64_t rows, int64_t k) {
  MatrixView view;
  view.code = Code::kF32;
  view.rows = rows;
  view.k = k;
  view.codes = reinterpret_cast<const uint8_t*>(values.data());
  return view;
}

}  // namespace

Linear::Linear(const KernelTable& kernels, ThreadPool& pool, InputBits bits, GatedActivation gated,
               const LinearSizes& sizes)
    : kernels_(kernels),
      pool_(pool),
      bits_(bits),
      gated_(gated),
      widest_output_(sizes.widest_output) {
  // Pages of forms that no matrix wants are never touched.
  for (size_t i = 0; i < forms_.size(); ++i) {
    Form& form = forms_[i];
    form.rotated = i % 2 == 1;
    form.scale_k = kScaleKs[i / 2];
    if (bits == InputBits::kFloat) {
      if (i < 2) form.floats = AlignedBuffer<float>(sizes.n_floats);
      continue;
    }
    const int64_t n_parts = bits == InputBits::kTwice8 ? 2 : 1;
    form.q = AlignedBuffer<int8_t>(n_parts * sizes.n_floats);
    // Every row starts its own block, so a row may have one more than its share.
    form.scales = AlignedBuffer<float>(n_parts * (sizes.n_floats / form.scale_k + sizes.n_rows));
    form.sums = AlignedBuffer<int32_t>(n_parts * sizes.n_floats / kGroupK);
  }
  jobs_.reserve(static_cast<size_t>(sizes.n_products));
}

void Linear::begin(const float* x, int64_t n_rows, int64_t k, std::span<const Product> products) {
  x_ = x;
  n_rows_ = n_rows;
  k_ = k;
  width_ = padded(k);
  reads_floats_ = tap_ != nullptr;
  for (Form& form : forms_) form.wanted = false;
  const auto want = [&](const MatrixView& w) {
    LAPIDARY_CHECK(w.k == k);
    (traits(w.code).is_float ? reads_floats_ : form_for(w).wanted) = true;
  };
  for (const Product& product : products) {
    want(*product.w);
    if (product.up.w) want(*product.up.w);
  }
  for (const Form& form : forms_)
    LAPIDARY_CHECK(!form.wanted || n_rows * width_ <= std::max(form.floats.size(), form.q.size()));
}

Linear::Form& Linear::form_for(const MatrixView& w) {
  size_t i = 0;
  if (bits_ != InputBits::kFloat)
    while (kScaleKs[i] != traits(w.code).scale_k) ++i;
  return forms_[2 * i + w.rotated];
}

void Linear::prepare_row(int64_t t) {
  const float* x = x_ + t * k_;
  for (Form& form : forms_) {
    if (!form.wanted) continue;
    if (bits_ != InputBits::kFloat) {
      quantize_row(x, form, t);
      continue;
    }
    float* row = form.floats.row(t, width_);
    std::copy_n(x, k_, row);
    std::fill(row + k_, row + width_, 0.0f);
    if (form.rotated) kernels_.rotate(row, 1, width_);
  }
}

// 512 values at a time, in L1: rotation works within 64 values, a scale within at most these. Of
// two rows the second has what rounding took from the first, in steps a 254th as large: what is
// lost of a value is a 508th of what one row loses.
void Linear::quantize_row(const float* x, Form& form, int64_t t) const {
  alignas(64) float block[kWidestScaleK];
  const bool twice = bits_ == InputBits::kTwice8;
  int8_t* const q = form.q.row(twice ? 2 * t : t, width_);
  float* scales = form.scales.row(twice ? 2 * t : t, n_scales(form));
  int32_t* const sums = form.sums.row(twice ? 2 * t : t, n_sums());
  for (int64_t k = 0; k < width_; k += kWidestScaleK) {
    const int64_t n = std::min(kWidestScaleK, width_ - k), given = std::min(n, k_ - k);
    const bool copied = form.rotated || twice || given < n;
    if (copied) {
      std::copy_n(x + k, given, block);
      std::fill(block + given, block + n, 0.0f);
    }
    if (form.rotated) kernels_.rotate(block, 1, n);
    kernels_.quantize(copied ? block : x + k, 1, n, form.scale_k, q + k, scales,
                      sums + k / kGroupK);
    if (twice) {
      for (int64_t first = 0; first < n; first += form.scale_k)
        for (int64_t i = first; i < std::min(first + form.scale_k, n); ++i)
          block[i] -= static_cast<float>(q[k + i]) * scales[first / form.scale_k];
      kernels_.quantize(block, 1, n, form.scale_k, q + width_ + k, scales + n_scales(form),
                        sums + n_sums() + k / kGroupK);
    }
    scales += ceil_div(n, form.scale_k);
  }
}

int64_t Linear::n_scales(const Form& form) const { return ceil_div(width_, form.scale_k); }

void Linear::repeat_row(int64_t from, int64_t to) {
  for (Form& form : forms_) {
    if (!form.wanted) continue;
    if (bits_ == InputBits::kFloat) {
      std::copy_n(form.floats.row(from, width_), width_, form.floats.row(to, width_));
      continue;
    }
    const int64_t n_parts = bits_ == InputBits::kTwice8 ? 2 : 1;
    const int64_t n_values = n_parts * width_, n_here = n_parts * n_scales(form);
    const int64_t n_groups = n_parts * n_sums();
    std::copy_n(form.q.row(from, n_values), n_values, form.q.row(to, n_values));
    std::copy_n(form.scales.row(from, n_here), n_here, form.scales.row(to, n_here));
    std::copy_n(form.sums.row(from, n_groups), n_groups, form.sums.row(to, n_groups));
  }
}

void Linear::run(std::span<const Product> products) {
  if (tap_) tap_(products, x_, k_);
  jobs_.clear();
  int64_t n_items = 0;
  for (const Product& product : products) {
    if (product.n_rows == 0) continue;
    const int64_t panels = (product.width() + kPanelRows - 1) / kPanelRows;
    jobs_.push_back({&product, panels, n_items});
    n_items += (panels + kPanelsPerItem - 1) / kPanelsPerItem;
  }
  pool_.run(n_items, [&](int64_t item) {
    const auto after =
        std::upper_bound(jobs_.begin(), jobs_.end(), item,
                         [](int64_t i, const Job& job) { return i < job.first_item; });
    const Job& job = *(after - 1);
    const int64_t first = (item - job.first_item) * kPanelsPerItem;
    const int64_t n_here = std::min(kPanelsPerItem, job.n_panels - first);
    if (job.product->up.w)
      run_gated(*job.product, first, n_here);
    else
      run_panels(*job.product, first, n_here);
  });
}

void Linear::run_panels(const Product& product, int64_t first_panel, int64_t n_panels) {
  const int64_t n_rows = product.n_rows < 0 ? n_rows_ : product.n_rows;
  run_rows(*product.w, first_panel, n_panels, product.first, n_rows,
           product.y + product.first * product.stride(), product.stride());
}

// The same rows of gate and up, a tile of tokens at a time; neither leaves the cache. Up's rows may
// start within a panel (both halves in one matrix), then they touch one panel more.
void Linear::run_gated(const Product& product, int64_t first_panel, int64_t n_panels) {
  constexpr int64_t kUpRows = kRowsPerItem + kPanelRows;
  alignas(64) float gate[kGatedTokens * kRowsPerItem];
  alignas(64) float up[kGatedTokens * kUpRows];
  const int64_t row = first_panel * kPanelRows;
  const int64_t n_here = std::min(n_panels * kPanelRows, product.up.width - row);
  const int64_t up_row = product.up.first_row + row;
  const int64_t up_panel = up_row / kPanelRows;
  const int64_t up_panels = (up_row + n_here + kPanelRows - 1) / kPanelRows - up_panel;
  const int64_t end = product.first + (product.n_rows < 0 ? n_rows_ : product.n_rows);
  for (int64_t t0 = product.first; t0 < end; t0 += kGatedTokens) {
    const int64_t n_tokens = std::min(kGatedTokens, end - t0);
    // Kernels index outputs by the matrix's row: shift the scratch accordingly.
    run_rows(*product.w, first_panel, n_panels, t0, n_tokens, gate - row, kRowsPerItem);
    run_rows(*product.up.w, up_panel, up_panels, t0, n_tokens, up - up_panel * kPanelRows, kUpRows);
    float* const y = product.y + t0 * product.up.width + row;
    for (int64_t t = 0; t < n_tokens; ++t) {
      // The lines that wait for memory longest: they are written once, a row of y apart.
      for (int64_t r = 0; r < n_here; r += kPanelRows)
        __builtin_prefetch(y + (t + kWritesAhead) * product.up.width + r, 1);
      gated_(gate + t * kRowsPerItem, up + t * kUpRows + up_row % kPanelRows, n_here,
             y + t * product.up.width);
    }
  }
}

void Linear::run_rows(const MatrixView& w, int64_t first_panel, int64_t n_panels, int64_t first_row,
                      int64_t n_rows, float* y, int64_t ldy) {
  if (traits(w.code).is_float) {
    kernels_.matmul_float(w, first_panel, n_panels, x_ + first_row * k_, k_, n_rows, y, ldy);
    return;
  }
  Form& form = form_for(w);
  if (bits_ == InputBits::kFloat) {
    kernels_.matmul_float(w, first_panel, n_panels, form.floats.row(first_row, width_), width_,
                          n_rows, y, ldy);
    return;
  }
  const int64_t row = bits_ == InputBits::kTwice8 ? 2 * first_row : first_row;
  const Int8Activations input{form.q.row(row, width_), form.scales.row(row, n_scales(form)),
                              form.sums.row(row, n_sums()), width_};
  if (bits_ == InputBits::kTwice8)
    run_twice(w, first_panel, n_panels, input, n_rows, y, ldy);
  else
    kernels_.matmul_int8(w, first_panel, n_panels, input, n_rows, y, ldy);
}

// Both rows of an input are rows of one product, whose results lie in L1 until they are added.
void Linear::run_twice(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                       const Int8Activations& x, int64_t n_rows, float* y, int64_t ldy) {
  alignas(64) float both[2 * kTwiceTokens * kRowsPerItem];
  const int64_t x_scales = ceil_div(x.padded_k, traits(w.code).scale_k);
  for (int64_t panel = first_panel; panel < first_panel + n_panels; panel += kPanelsPerItem) {
    const int64_t n_here = std::min(kPanelsPerItem, first_panel + n_panels - panel);
    const int64_t row = panel * kPanelRows, end = std::min(row + n_here * kPanelRows, w.rows);
    for (int64_t t0 = 0; t0 < n_rows; t0 += kTwiceTokens) {
      const int64_t n_tokens = std::min(kTwiceTokens, n_rows - t0);
      const Int8Activations here{x.q + 2 * t0 * x.padded_k, x.scales + 2 * t0 * x_scales,
                                 x.sums + 2 * t0 * x.padded_k / kGroupK, x.padded_k};
      // Kernels index outputs by the matrix's row: shift the scratch accordingly.
      kernels_.matmul_int8(w, panel, n_here, here, 2 * n_tokens, both - row, kRowsPerItem);
      for (int64_t t = 0; t < n_tokens; ++t) {
        const float* parts = both + 2 * t * kRowsPerItem;
        for (int64_t r = row; r < end; ++r)
          y[(t0 + t) * ldy + r] = parts[r - row] + parts[kRowsPerItem + r - row];
      }
    }
  }
}

void Linear::reserve_rank(int64_t rank) {
  if (rank <= max_rank_) return;
  max_rank_ = rank;
  lora_ = AlignedBuffer<float>((rank + widest_output_) * pool_.n_threads());
}

bool Linear::any_adapted(std::span<const Row> rows, const MatrixView& w) const {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const Row& row) { return row.adapter && row.adapter->find(w); });
}

// y = row_factor * (y + B (A x)) for each row that has an adapter for this matrix. One row at a
// time: a row's sum must not depend on its neighbours, and A and B are small enough to stay in
// cache.
void Linear::add_adapters(std::span<const Row> rows, const Product& product) {
  if (product.n_rows >= 0)
    rows = rows.subspan(static_cast<size_t>(product.first), static_cast<size_t>(product.n_rows));
  if (!any_adapted(rows, *product.w)) return;
  LAPIDARY_CHECK(!product.up.w);  // the sum belongs before the activation
  const int64_t n_out = product.w->rows;
  run_in_lanes(pool_, static_cast<int64_t>(rows.size()), [&](int64_t lane, int64_t i) {
    const AdapterMatrix* m = rows[i].adapter ? rows[i].adapter->find(*product.w) : nullptr;
    if (!m) return;
    const int64_t t = product.first + i;
    float* ax = lora_.row(lane, max_rank_ + widest_output_);
    float* bax = ax + max_rank_;
    const MatrixView a = float_matrix(m->a, m->rank, k_);
    const MatrixView b = float_matrix(m->b, n_out, m->rank);
    kernels_.matmul_float(a, 0, n_panels(a), x_ + t * k_, k_, 1, ax, m->rank);
    kernels_.matmul_float(b, 0, n_panels(b), ax, m->rank, 1, bax, n_out);
    float* y = product.y + t * product.stride();
    for (int64_t r = 0; r < n_out; ++r) y[r] += bax[r];
    for (size_t r = 0; r < m->row_factor.size(); ++r) y[r] *= m->row_factor[r];
  });
}

}  // namespace lapidary
