// Dequantization by the definition, for everything that is not a kernel: requantizing, merging,
// inspecting, and tests.
#include "formats/lap_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/error.h"
#include "formats/float_codes.h"

namespace lapidary {
namespace {

constexpr int64_t kReadBytes = int64_t{4} << 20;

int64_t last_dim(const LapTensor& t) { return t.shape.back(); }

void read_plain_rows(const ReadFile& file, const LapTensor& t, int64_t first, int64_t count,
                     std::span<float> out) {
  const int64_t row_bytes = last_dim(t) * traits(t.code).bits / 8;
  std::vector<uint8_t> raw(static_cast<size_t>(count * row_bytes));
  file.read_at(t.offset + static_cast<uint64_t>(first * row_bytes), raw);
  decode_floats(t.code, raw, out);
}

void read_table_rows(const ReadFile& file, const LapTensor& t, int64_t first, int64_t count,
                     std::span<float> out) {
  const RowTableGeometry g =
      row_table_geometry(t.code, t.shape[0], t.shape[1] / t.record_width, t.record_width);
  const size_t record_bytes = static_cast<size_t>(g.record_bytes);
  const size_t width = static_cast<size_t>(g.width);
  const int64_t rows_at_once = std::clamp<int64_t>(kReadBytes / g.row_bytes, 1, count);
  std::vector<uint8_t> raw;
  for (int64_t row = 0; row < count; row += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, count - row);
    raw.resize(static_cast<size_t>(rows * g.row_bytes));
    file.read_at(t.offset + static_cast<uint64_t>((first + row) * g.row_bytes), raw);
    const size_t first_record = static_cast<size_t>(row * g.n_layers);
    for (size_t i = 0; i < static_cast<size_t>(rows * g.n_layers); ++i)
      unpack_record(g, t.scale_type, std::span(raw).subspan(i * record_bytes, record_bytes),
                    out.subspan((first_record + i) * width, width));
  }
}

// One row of an unpacked panel as floats [padded_k].
void dequantize_row(const PackedGeometry& g, const PanelIntegers& panel,
                    std::span<const int8_t> weights, ScaleType scale_type, int row,
                    std::span<float> out) {
  const int64_t scale_k = traits(g.code).scale_k;
  for (int64_t k = 0; k < g.padded_k; ++k) {
    const int integer = weights[static_cast<size_t>(row * g.padded_k + k)];
    const uint16_t scale = panel.scales[static_cast<size_t>(row * g.n_scale_blocks + k / scale_k)];
    out[static_cast<size_t>(k)] = static_cast<float>(integer) * scale_to_float(scale_type, scale);
  }
}

void read_panel_rows(const ReadFile& file, const LapTensor& t, int64_t first, int64_t count,
                     std::span<float> out) {
  const size_t n = t.shape.size();
  const int64_t rows = t.shape[n - 2], k = t.shape[n - 1];
  const uint64_t experts = static_cast<uint64_t>(n == 3 ? t.shape[0] : 1);
  const PackedGeometry g = packed_geometry(t.code, rows, k);
  std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
  std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
  std::vector<float> row_values(static_cast<size_t>(g.padded_k));
  for (int64_t at = first; at < first + count;) {
    const int64_t expert = at / rows, row = at % rows, panel = row / kPanelRows;
    const uint64_t stored_panel = static_cast<uint64_t>(expert * g.n_panels + panel);
    file.read_at(t.offset + stored_panel * codes.size(), codes);
    file.read_at(
        t.offset + experts * static_cast<uint64_t>(g.code_bytes) + stored_panel * meta.size(),
        meta);
    const PanelIntegers integers = unpack_panel(g, codes, meta);
    const std::vector<int8_t> weights = panel_weights(g, integers);
    const int64_t panel_end = std::min(panel * kPanelRows + kPanelRows, rows);
    const int64_t end = std::min(first + count, at + (panel_end - row));
    for (; at < end; ++at) {
      dequantize_row(g, integers, weights, t.scale_type, static_cast<int>(at % rows % kPanelRows),
                     row_values);
      if (t.rotated) undo_rotation(row_values);
      std::copy_n(row_values.begin(), k, out.begin() + (at - first) * k);
    }
  }
}

}  // namespace

void undo_rotation(std::span<float> row) {
  LAPIDARY_CHECK(row.size() % kTileK == 0);
  for (float* block = row.data(); block < row.data() + row.size(); block += kTileK) {
    for (int half = 1; half < kTileK; half *= 2)
      for (int i = 0; i < kTileK; i += 2 * half)
        for (int j = i; j < i + half; ++j) {
          const float a = block[j], b = block[j + half];
          block[j] = a + b;
          block[j + half] = a - b;
        }
    for (int i = 0; i < kTileK; ++i)
      block[i] *= (kRotationSigns >> i) & 1 ? -0.125f : 0.125f;  // 1 / sqrt(64): orthonormal
  }
}

void read_lap_rows(const ReadFile& file, const LapTensor& t, int64_t first, int64_t count,
                   std::span<float> out) {
  const int64_t k = last_dim(t);
  LAPIDARY_CHECK(first >= 0 && count >= 0 && count <= t.elements() / k - first);
  LAPIDARY_CHECK(static_cast<int64_t>(out.size()) == count * k);
  if (count == 0) return;
  switch (t.layout) {
    case Layout::kPlain:
      read_plain_rows(file, t, first, count, out);
      break;
    case Layout::kPanels:
      read_panel_rows(file, t, first, count, out);
      break;
    case Layout::kRowTable:
      read_table_rows(file, t, first, count, out);
      break;
  }
  const auto bad =
      std::find_if(out.begin(), out.end(), [](float value) { return !std::isfinite(value); });
  if (bad != out.end())
    fail(ErrorCode::kBadData, "{}: {}: row {} holds {}; the weights are damaged", file.path(),
         t.name, first + (bad - out.begin()) / k, *bad);
}

}  // namespace lapidary
