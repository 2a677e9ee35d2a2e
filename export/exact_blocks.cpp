// Integers and scales as Q8_0 and Q4_0 lay them out.
#include "export/exact_blocks.h"

#include <array>
#include <vector>

#include "export/integer_rows.h"
#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/ggml_blocks.h"

namespace lapidary {
namespace {

constexpr int kBlock = IntegerRow::kGroup;

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

}  // namespace

std::optional<GgmlType> exact_type(const LapReader& model, const LapTensor& t) {
  const std::optional<GgmlType> type = type_of(t.code);
  if (!type || !has_integer_rows(t)) return std::nullopt;
  if (t.scale_type == ScaleType::kF16) return type;
  bool fits = true;
  for_integer_rows(model, t, 0, t.elements() / t.shape.back(), [&](int64_t, const IntegerRow& row) {
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
  for_integer_rows(model, t, first, count, [&](int64_t, const IntegerRow& row) {
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
