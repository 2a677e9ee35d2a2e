// Copying integers and scales from panels and row tables.
#include "export/exact_blocks.h"

#include <array>
#include <vector>

#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/ggml_blocks.h"

namespace lapidary {
namespace {

constexpr int kBlock = 32;

// One row as integers and one scale per 32, whatever the layout.
struct IntegerRow {
  std::vector<uint8_t> indices;  // [k]
  std::vector<uint16_t> scales;  // [k / 32], as stored
};

std::optional<GgmlType> type_of(Code code) {
  switch (code) {
    case Code::kW8x:
    case Code::kW8:
      return GgmlType::kQ8_0;
    case Code::kW4x:
      return GgmlType::kQ4_0;
    default:
      return std::nullopt;
  }
}

// The fp16 of a stored scale; nothing when there is none.
std::optional<uint16_t> as_half(ScaleType type, uint16_t bits) {
  if (type == ScaleType::kF16) return bits;
  const float value = scale_to_float(type, bits);
  const uint16_t half = float_to_f16(value);
  if (f16_to_float(half) == value) return half;
  return std::nullopt;
}

// Calls f(row number, IntegerRow) for rows [first, first + count) of panels.
template <class F>
void for_panel_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count,
                    F&& f) {
  const size_t n = t.shape.size();
  const int64_t rows = t.shape[n - 2], k = t.shape[n - 1];
  const PackedGeometry g = packed_geometry(t.code, rows, k);
  const int64_t scale_k = traits(t.code).scale_k;
  IntegerRow row;
  for (int64_t at = first; at < first + count;) {
    const MatrixView matrix = model.matrix(t, at / rows);
    const int64_t panel = at % rows / kPanelRows;
    const PanelIntegers integers =
        unpack_panel(g, {matrix.codes + panel * g.panel_code_bytes, size_t(g.panel_code_bytes)},
                     {matrix.meta + panel * g.panel_meta_bytes, size_t(g.panel_meta_bytes)});
    const int64_t in_panel = std::min(kPanelRows - at % rows % kPanelRows, rows - at % rows);
    const int64_t end = std::min(first + count, at + in_panel);
    for (; at < end; ++at) {
      const int64_t r = at % rows % kPanelRows;
      const auto* indices = &integers.indices[size_t(r * g.padded_k)];
      row.indices.assign(indices, indices + k);
      row.scales.clear();
      for (int64_t i = 0; i < k; i += kBlock)
        row.scales.push_back(integers.scales[size_t(r * g.n_scale_blocks + i / scale_k)]);
      f(at, row);
    }
  }
}

// The same for row tables: records of one scale block per scale_k, then the indices.
template <class F>
void for_table_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count,
                    F&& f) {
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
        if (i % kBlock == 0) row.scales.push_back(static_cast<uint16_t>(scale[0] | scale[1] << 8));
      }
    }
    f(at, row);
  }
}

template <class F>
void for_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count, F&& f) {
  if (t.layout == Layout::kPanels)
    for_panel_rows(model, t, first, count, f);
  else
    for_table_rows(model, t, first, count, f);
}

}  // namespace

std::optional<GgmlType> exact_type(const LapReader& model, const LapTensor& t) {
  const std::optional<GgmlType> type = type_of(t.code);
  const int64_t group = t.layout == Layout::kRowTable ? t.record_width : t.shape.back();
  if (!type || t.rotated || t.layout == Layout::kPlain || group % kBlock != 0) return std::nullopt;
  if (t.scale_type == ScaleType::kF16) return type;
  bool fits = true;
  for_rows(model, t, 0, t.elements() / t.shape.back(), [&](int64_t, const IntegerRow& row) {
    for (const uint16_t scale : row.scales) fits &= as_half(t.scale_type, scale).has_value();
  });
  return fits ? type : std::nullopt;
}

void copy_exact_rows(const LapReader& model, const LapTensor& t, int64_t first, int64_t count,
                     std::span<uint8_t> blocks) {
  const GgmlType type = type_of(t.code).value();
  const size_t block_bytes = static_cast<size_t>(traits(type).block_bytes);
  const std::span<const int8_t> table = levels(t.code);
  uint8_t* out = blocks.data();
  for_rows(model, t, first, count, [&](int64_t, const IntegerRow& row) {
    for (size_t b = 0; b < row.scales.size(); ++b, out += block_bytes) {
      const uint16_t scale = as_half(t.scale_type, row.scales[b]).value();
      const uint8_t* indices = &row.indices[b * kBlock];
      if (type == GgmlType::kQ4_0) {
        pack_nibbles(scale, std::span<const uint8_t, kBlock>(indices, kBlock), out);
        continue;
      }
      std::array<int8_t, kBlock> q;
      for (size_t i = 0; i < kBlock; ++i) q[i] = table[indices[i]];
      pack_q8_0(scale, q, out);
    }
  });
  LAPIDARY_CHECK(out == blocks.data() + blocks.size());
}

}  // namespace lapidary
