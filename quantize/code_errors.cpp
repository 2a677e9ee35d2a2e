// Sampled panels and records, rounded by the functions that round the whole.
#include "quantize/code_errors.h"

#include <algorithm>
#include <limits>

#include "formats/lap_copy.h"
#include "quantize/pack_rows.h"

namespace lapidary {
namespace {

constexpr int64_t kSampledPanels = 16;
// A search is some hundred times dearer than rounding, and its error varies less between rows.
constexpr int64_t kSearchedPanels = 2;

// Rows of the sample, panel after panel, as float32.
struct Sample {
  std::vector<std::vector<float>> panels;
  int64_t k = 0;
};

// Panels never cross the matrices of a stack.
Sample read_sample(const ModelSource& source, size_t tensor) {
  const SourceTensor& t = source.tensors()[tensor];
  const int64_t matrix_rows = t.shape.size() == 3 ? t.shape[1] : t.rows();
  const int64_t panels_each = (matrix_rows + kPanelRows - 1) / kPanelRows;
  const int64_t n_panels = t.rows() / matrix_rows * panels_each;
  const int64_t wanted = std::min(n_panels, kSampledPanels);
  Sample sample;
  sample.k = t.k();
  for (int64_t i = 0; i < wanted; ++i) {
    // The middle of each of `wanted` equal parts.
    const int64_t panel = (2 * i + 1) * n_panels / (2 * wanted);
    const int64_t first = panel % panels_each * kPanelRows;
    const int64_t count = std::min<int64_t>(kPanelRows, matrix_rows - first);
    std::vector<float>& rows = sample.panels.emplace_back(static_cast<size_t>(count * t.k()));
    source.read_rows(tensor, panel / panels_each * matrix_rows + first, count, rows);
  }
  return sample;
}

FloatRows as_rows(const std::vector<float>& values, int64_t k) {
  return {Code::kF32, reinterpret_cast<const uint8_t*>(values.data()), k};
}

RoundingLoss round_matrix_rows(const std::vector<float>& values, int64_t k, Code code,
                               bool rotated) {
  const int64_t n_rows = static_cast<int64_t>(values.size()) / k;
  const PackedGeometry g = packed_geometry(code, n_rows, k);
  std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes)),
      meta(static_cast<size_t>(g.panel_meta_bytes));
  return pack_panel_rows(g, rotated, as_rows(values, k), 0, static_cast<int>(n_rows), codes, meta);
}

RoundingLoss round_table_rows(const std::vector<float>& values, int64_t width, Code code) {
  const int64_t n_records = static_cast<int64_t>(values.size()) / width;
  const RowTableGeometry g = row_table_geometry(code, n_records, 1, width);
  std::vector<uint8_t> out;
  RoundingLoss loss;
  for (int64_t first = 0; first < n_records; first += kPanelRows) {
    const int64_t count = std::min<int64_t>(kPanelRows, n_records - first);
    out.resize(static_cast<size_t>(count * g.record_bytes));
    loss.add(pack_table_records(g, as_rows(values, width), first, static_cast<int>(count), out));
  }
  return loss;
}

}  // namespace

std::map<Code, double> code_errors(const ModelSource& source, size_t tensor,
                                   const std::vector<Code>& codes, const QuantizeOptions& options,
                                   ThreadPool& pool) {
  const SourceTensor& t = source.tensors()[tensor];
  const Sample sample = read_sample(source, tensor);
  const int64_t n_panels = static_cast<int64_t>(sample.panels.size());
  const bool is_table = t.name == kPleTensor;
  const auto is_sampled = [&](Code code, int64_t panel) {
    const int64_t every = (n_panels + kSearchedPanels - 1) / kSearchedPanels;
    return !traits(code).is_trellis || panel % every == every / 2;
  };
  std::vector<RoundingLoss> losses(codes.size() * sample.panels.size());
  pool.run(static_cast<int64_t>(losses.size()), [&](int64_t i) {
    const Code code = codes[static_cast<size_t>(i / n_panels)];
    if (!is_sampled(code, i % n_panels)) return;
    const std::vector<float>& rows = sample.panels[static_cast<size_t>(i % n_panels)];
    // As in the plan: codes with a scale per 32 are not rotated.
    const bool rotated = options.rotate && traits(code).scale_k != kGroupK;
    losses[static_cast<size_t>(i)] =
        is_table ? round_table_rows(rows, source.metadata().config.ple_width, code)
                 : round_matrix_rows(rows, sample.k, code, rotated);
  });
  std::map<Code, double> errors;
  for (size_t c = 0; c < codes.size(); ++c) {
    RoundingLoss sum;
    for (int64_t p = 0; p < n_panels; ++p)
      sum.add(losses[c * sample.panels.size() + static_cast<size_t>(p)]);
    errors[codes[c]] = !sum.fits          ? std::numeric_limits<double>::infinity()
                       : sum.energy > 0.0 ? sum.error / sum.energy
                                          : 0.0;
  }
  return errors;
}

}  // namespace lapidary
