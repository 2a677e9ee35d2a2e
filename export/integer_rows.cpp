// Integers and scales out of panels and row tables.
#include "export/integer_rows.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "formats/packed_matrix.h"

namespace lapidary {
namespace {

using RowFunction = std::function<void(int64_t, const IntegerRow&)>;

// Scales of a row that no damaged file may hand on.
void check_finite(const LapReader& model, const LapTensor& t, int64_t at, const IntegerRow& row) {
  for (const uint16_t scale : row.scales)
    if (!std::isfinite(scale_to_float(t.scale_type, scale)))
      fail(ErrorCode::kBadData, "{}: {}: row {} has the scale {}; the weights are damaged",
           model.describe(), t.name, at, scale_to_float(t.scale_type, scale));
}

// Panels are read, not mapped, so that a file larger than memory never counts as resident.
void for_panel_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count,
                    const RowFunction& f) {
  const size_t n = t.shape.size();
  const int64_t rows = t.shape[n - 2], k = t.shape[n - 1];
  const uint64_t experts = static_cast<uint64_t>(n == 3 ? t.shape[0] : 1);
  const PackedGeometry g = packed_geometry(t.code, rows, k);
  const int64_t scale_k = traits(t.code).scale_k;
  std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
  std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
  IntegerRow row;
  for (int64_t at = first; at < first + count;) {
    const int64_t panel = at % rows / kPanelRows;
    const uint64_t stored_panel = static_cast<uint64_t>(at / rows * g.n_panels + panel);
    model.file().read_at(t.offset + stored_panel * codes.size(), codes);
    model.file().read_at(
        t.offset + experts * static_cast<uint64_t>(g.code_bytes) + stored_panel * meta.size(),
        meta);
    const PanelIntegers integers = unpack_panel(g, codes, meta);
    const int64_t in_panel = std::min(kPanelRows - at % rows % kPanelRows, rows - at % rows);
    const int64_t end = std::min(first + count, at + in_panel);
    for (; at < end; ++at) {
      const int64_t r = at % rows % kPanelRows;
      const auto* indices = &integers.indices[size_t(r * g.padded_k)];
      row.indices.assign(indices, indices + k);
      row.scales.clear();
      for (int64_t i = 0; i < k; i += IntegerRow::kGroup)
        row.scales.push_back(integers.scales[size_t(r * g.n_scale_blocks + i / scale_k)]);
      check_finite(model, t, at, row);
      f(at, row);
    }
  }
}

// The same for row tables: records of one scale block per scale_k, then the indices.
void for_table_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count,
                    const RowFunction& f) {
  const RowTableGeometry g =
      row_table_geometry(t.code, t.shape[0], t.shape[1] / t.record_width, t.record_width);
  const int bits = traits(t.code).bits, scale_k = traits(t.code).scale_k;
  std::vector<uint8_t> raw(static_cast<size_t>(g.row_bytes));
  IntegerRow row;
  for (int64_t at = first; at < first + count; ++at) {
    model.file().read_at(t.offset + static_cast<uint64_t>(at * g.row_bytes), raw);
    row.indices.clear();
    row.scales.clear();
    for (int64_t layer = 0; layer < g.n_layers; ++layer) {
      const uint8_t* record = &raw[size_t(layer * g.record_bytes)];
      const uint8_t* codes = record + 2 * g.n_scales;
      for (int64_t i = 0; i < g.width; ++i) {
        row.indices.push_back(bits == 8 ? codes[i] : codes[i / 2] >> (4 * (i % 2)) & 15);
        const uint8_t* scale = record + 2 * (i / scale_k);
        if (i % IntegerRow::kGroup == 0)
          row.scales.push_back(static_cast<uint16_t>(scale[0] | scale[1] << 8));
      }
    }
    check_finite(model, t, at, row);
    f(at, row);
  }
}

}  // namespace

bool has_integer_rows(const LapTensor& t) {
  if (t.code != Code::kW4x && t.code != Code::kW8x && t.code != Code::kW8) return false;
  if (t.rotated || t.layout == Layout::kPlain) return false;
  const int64_t width = t.layout == Layout::kRowTable ? t.record_width : t.shape.back();
  return width % IntegerRow::kGroup == 0;
}

void for_integer_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count,
                      const std::function<void(int64_t, const IntegerRow&)>& f) {
  if (t.layout == Layout::kPanels)
    for_panel_rows(model, t, first, count, f);
  else
    for_table_rows(model, t, first, count, f);
}

}  // namespace lapidary
