// Rows into strips of 64, in the stored basis, and the choice of a code's rounder.
#include "quantize/round_tensor.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "formats/error.h"
#include "kernels/kernels.h"
#include "quantize/ggml_rounder.h"
#include "quantize/scalar_rounder.h"
#include "quantize/sweep.h"
#include "quantize/trellis_rounder.h"

namespace lapidary {
namespace {

std::unique_ptr<BlockRounder> block_rounder(const PanelStore& store) {
  if (traits(store.g.code).is_trellis)
    return std::make_unique<TrellisRounder>(store, TrellisRounding{});
  return std::make_unique<ScalarRounder>(store, ScalarRounding{});
}

}  // namespace

bool takes_feedback(Code code) { return !traits(code).is_float; }

TensorRounding::TensorRounding(const LapTensor& entry, std::optional<GgmlType> ggml)
    : entry_(entry),
      g_(packed_geometry(entry.code, entry.shape[entry.shape.size() - 2], entry.shape.back())),
      ggml_(ggml),
      n_matrices_(entry.shape.size() == 3 ? entry.shape[0] : 1),
      stored_(ggml ? static_cast<size_t>(n_matrices_ * g_.rows * block_bytes(*ggml, g_.k))
                   : entry.bytes) {
  LAPIDARY_CHECK(takes_feedback(entry.code) && entry.layout == Layout::kPanels);
}

void TensorRounding::round(int64_t index, const FloatRows& rows, const Factor& factor,
                           FloatMatrix& scratch, ThreadPool& pool) {
  LAPIDARY_CHECK(factor.n == g_.padded_k);
  const int64_t strip_floats = factor.n * kStripRows;
  const int64_t n_strips = (g_.rows + kStripRows - 1) / kStripRows;
  const int64_t at_once = std::clamp<int64_t>(kStripFloats / strip_floats, 1, n_strips);
  strips_.reserve(at_once, strip_floats);
  for (int64_t strip = 0; strip < n_strips; strip += at_once) {
    const int64_t n_here = std::min(at_once, n_strips - strip), first = strip * kStripRows;
    const int64_t n_rows = std::min(n_here * kStripRows, g_.rows - first);
    std::vector<uint8_t> fits(static_cast<size_t>(n_here));
    pool.run(n_here, [&](int64_t s) {
      bool all_fit = true;
      fill_strip(rows, first + s * kStripRows, strips_.data() + s * strip_floats, &all_fit);
      fits[static_cast<size_t>(s)] = all_fit;
    });
    fits_ = fits_ && std::all_of(fits.begin(), fits.end(), [](uint8_t f) { return f != 0; });
    if (!fits_) return;
    const std::unique_ptr<BlockRounder> rounding = rounder(index, first, n_rows);
    FeedbackLoss loss =
        round_with_feedback(factor, first, n_rows, strips_.data(), *rounding, scratch, pool);
    if (rounding->improves())
      sweep(factor, first, n_rows, strips_.data(), *rounding, scratch, pool, &loss);
    loss_.error += loss.error;
    loss_.energy += loss.energy;
    loss_.plain_error += loss.plain_error;
    loss_.plain_energy += loss.plain_energy;
  }
}

// Of rows [first, first + n_rows) of matrix `index`.
std::unique_ptr<BlockRounder> TensorRounding::rounder(int64_t index, int64_t first,
                                                      int64_t n_rows) {
  if (ggml_) {
    const auto bytes = static_cast<size_t>(block_bytes(*ggml_, g_.k));
    return std::make_unique<GgmlRounder>(
        *ggml_, g_.k, first,
        std::span(stored_).subspan(static_cast<size_t>(index * g_.rows + first) * bytes,
                                   static_cast<size_t>(n_rows) * bytes));
  }
  uint8_t* const codes = stored_.data() + index * g_.code_bytes;
  uint8_t* const meta = stored_.data() + n_matrices_ * g_.code_bytes + index * g_.meta_bytes;
  const int64_t panel = first / kPanelRows, n_panels = (n_rows + kPanelRows - 1) / kPanelRows;
  const auto part = [&](uint8_t* from, int64_t panel_bytes) {
    return std::span(from + panel * panel_bytes, static_cast<size_t>(n_panels * panel_bytes));
  };
  return block_rounder({g_, entry_.rotated, first, part(codes, g_.panel_code_bytes),
                        part(meta, g_.panel_meta_bytes)});
}

// Sixteen rows at a time, so that what is scattered fills whole cache lines.
void TensorRounding::fill_strip(const FloatRows& rows, int64_t first_row, float* strip,
                                bool* fits) const {
  const KernelTable& table = kernels();
  const float limit =
      traits(g_.code).is_trellis ? largest_weight(Code::kW4) : largest_weight(g_.code);
  std::vector<float> some(static_cast<size_t>(kPanelRows * g_.padded_k));
  for (int64_t r0 = 0; r0 < kStripRows; r0 += kPanelRows) {
    std::fill(some.begin(), some.end(), 0.0f);
    for (int64_t r = 0; r < kPanelRows && first_row + r0 + r < g_.rows; ++r)
      rows.read(first_row + r0 + r, 0, g_.k, some.data() + r * g_.padded_k);
    if (entry_.rotated) table.rotate(some.data(), kPanelRows, g_.padded_k);
    for (const float value : some) *fits = *fits && std::fabs(value) <= limit;
    for (int64_t k = 0; k < g_.padded_k; ++k)
      for (int64_t r = 0; r < kPanelRows; ++r)
        strip[k * kStripRows + r0 + r] = some[static_cast<size_t>(r * g_.padded_k + k)];
  }
}

}  // namespace lapidary
