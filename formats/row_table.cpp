// Row tables: one record per row and layer, each a few bit strings that can be read alone.
//
// Made for per-layer embeddings, which are fetched a record at a time from disk and never
// multiplied as a matrix; so there is no padding and no panel.
#include <algorithm>
#include <cstdlib>

#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/packed_matrix.h"
#include "formats/trellis.h"

namespace lapidary {
namespace {

constexpr int64_t kMaxTableElements = int64_t{1} << 48;

// Values of a fixed number of bits (at most 8), laid from bit 0 of the first byte on.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* out) : out_(out) {}
  void put(uint32_t value, int bits) {
    held_ |= value << n_held_;
    for (n_held_ += bits; n_held_ >= 8; n_held_ -= 8, held_ >>= 8)
      *out_++ = static_cast<uint8_t>(held_);
  }
  // As put() for each; eight values fill `bits` whole bytes. REQUIRES: at a byte's start.
  void put_all(std::span<const uint8_t> values, int bits) {
    size_t i = 0;
    for (; i + 8 <= values.size(); i += 8) {
      uint64_t word = 0;
      for (size_t j = 0; j < 8; ++j)
        word |= uint64_t{values[i + j]} << (static_cast<int>(j) * bits);
      for (int byte = 0; byte < bits; ++byte) *out_++ = static_cast<uint8_t>(word >> (8 * byte));
    }
    for (; i < values.size(); ++i) put(values[i], bits);
  }
  void pad_to_byte() {
    if (n_held_ > 0) *out_++ = static_cast<uint8_t>(held_);
    held_ = 0;
    n_held_ = 0;
  }

 private:
  uint8_t* out_;
  uint32_t held_ = 0;
  int n_held_ = 0;
};

class BitReader {
 public:
  explicit BitReader(const uint8_t* in) : in_(in) {}
  uint32_t get(int bits) {
    if (n_held_ < bits) {
      held_ |= uint32_t{*in_++} << n_held_;
      n_held_ += 8;
    }
    const uint32_t value = held_ & ((1u << bits) - 1);
    held_ >>= bits;
    n_held_ -= bits;
    return value;
  }

 private:
  const uint8_t* in_;
  uint32_t held_ = 0;
  int n_held_ = 0;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool stores_multipliers(const RowTableGeometry& g) {
  return g.n_groups > 1 && traits(g.code).multiplier_bits > 0;
}

// Each scale block is one ring of symbols, the blocks' strings of bits following each other.
void unpack_trellis_record(const RowTableGeometry& g, ScaleType scale_type, const uint8_t* record,
                           std::span<float> out) {
  const CodeTraits& t = traits(g.code);
  BitReader bits(record + 2 * g.n_scales);
  uint8_t symbols[kTrellisMostSteps];
  int8_t levels[kTrellisMostSteps];
  for (int64_t first = 0; first < g.width; first += t.scale_k, record += 2) {
    const size_t n = static_cast<size_t>(std::min<int64_t>(t.scale_k, g.width - first));
    for (size_t i = 0; i < n; ++i) symbols[i] = static_cast<uint8_t>(bits.get(t.bits));
    trellis_levels(t.bits, std::span(symbols).first(n), std::span(levels).first(n));
    const float scale =
        scale_to_float(scale_type, static_cast<uint16_t>(record[0] | (record[1] << 8)));
    for (size_t i = 0; i < n; ++i)
      out[static_cast<size_t>(first) + i] = static_cast<float>(levels[i]) * scale;
  }
}

}  // namespace

RowTableGeometry row_table_geometry(Code code, int64_t n_rows, int64_t n_layers, int64_t width) {
  LAPIDARY_CHECK(n_rows > 0 && n_layers > 0 && width > 0);
  LAPIDARY_CHECK(n_layers < kMaxTableElements / width &&
                 n_rows < kMaxTableElements / (width * n_layers));
  const CodeTraits& t = traits(code);
  RowTableGeometry g{};
  g.code = code;
  g.n_rows = n_rows;
  g.n_layers = n_layers;
  g.width = width;
  g.record_bytes = ceil_div(width * t.bits, 8);
  if (!t.is_float) {
    g.n_groups = ceil_div(width, kGroupK);
    g.n_scales = ceil_div(width, t.scale_k);
    g.record_bytes += 2 * g.n_scales;
    if (stores_multipliers(g)) g.record_bytes += ceil_div(g.n_groups * t.multiplier_bits, 8);
  }
  g.row_bytes = n_layers * g.record_bytes;
  g.bytes = n_rows * g.row_bytes;
  return g;
}

void pack_record(const RowTableGeometry& g, const RecordIntegers& in, std::span<uint8_t> out) {
  const CodeTraits& t = traits(g.code);
  LAPIDARY_CHECK(!t.is_float && static_cast<int64_t>(out.size()) == g.record_bytes);
  LAPIDARY_CHECK(static_cast<int64_t>(in.indices.size()) == g.width);
  LAPIDARY_CHECK(static_cast<int64_t>(in.scales.size()) == g.n_scales);
  BitWriter bits(out.data());
  for (const uint16_t scale : in.scales) {
    bits.put(scale & 0xff, 8);
    bits.put(scale >> 8, 8);
  }
  if (stores_multipliers(g)) {
    LAPIDARY_CHECK(static_cast<int64_t>(in.multipliers.size()) == g.n_groups);
    const int magnitude_bits = t.multiplier_bits - 1;
    for (const int multiplier : in.multipliers) {
      const int magnitude = std::abs(multiplier);
      LAPIDARY_CHECK(magnitude <= t.max_multiplier);
      const int sign = multiplier < 0 ? 1 : 0;
      bits.put(static_cast<uint32_t>(magnitude | (sign << magnitude_bits)), t.multiplier_bits);
    }
    bits.pad_to_byte();
  }
  bits.put_all(in.indices, t.bits);
  bits.pad_to_byte();
}

void unpack_record(const RowTableGeometry& g, ScaleType scale_type, std::span<const uint8_t> record,
                   std::span<float> out) {
  const CodeTraits& t = traits(g.code);
  LAPIDARY_CHECK(static_cast<int64_t>(record.size()) == g.record_bytes);
  LAPIDARY_CHECK(static_cast<int64_t>(out.size()) == g.width);
  if (t.is_float) {
    decode_floats(g.code, record, out);
    return;
  }
  if (t.is_trellis) return unpack_trellis_record(g, scale_type, record.data(), out);
  const uint8_t* scales = record.data();
  BitReader multipliers(scales + 2 * g.n_scales);
  const int64_t multiplier_bytes =
      stores_multipliers(g) ? ceil_div(g.n_groups * t.multiplier_bits, 8) : 0;
  BitReader indices(scales + 2 * g.n_scales + multiplier_bytes);
  const std::span<const int8_t> table = levels(g.code);
  const int magnitude_mask = (1 << std::max(t.multiplier_bits - 1, 0)) - 1;
  int multiplier = 1;
  for (int64_t i = 0; i < g.width; ++i) {
    if (multiplier_bytes > 0 && i % kGroupK == 0) {
      const int stored = static_cast<int>(multipliers.get(t.multiplier_bits));
      const int magnitude = std::min(stored & magnitude_mask, t.max_multiplier);
      multiplier = stored > magnitude_mask ? -magnitude : magnitude;
    }
    const uint8_t* scale = scales + 2 * (i / t.scale_k);
    const int level = table[indices.get(t.bits)];
    out[static_cast<size_t>(i)] =
        static_cast<float>(level * multiplier) *
        scale_to_float(scale_type, static_cast<uint16_t>(scale[0] | (scale[1] << 8)));
  }
}

}  // namespace lapidary
