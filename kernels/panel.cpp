// Scalar decoding of packed panels, bit by bit as formats/packed_matrix.h describes them.
#include "kernels/panel.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/trellis.h"

namespace lapidary {
namespace {

uint16_t load_u16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// The planes over the 16 lines of 64 bytes; `line` and `byte` name the weight.
int plane4(const uint8_t* plane, int line, int byte) {
  return plane[64 * (line % 8) + byte] >> (4 * (line / 8)) & 15;
}
int plane2(const uint8_t* plane, int line, int byte) {
  return plane[64 * (line % 4) + byte] >> (2 * (line / 4)) & 3;
}
int plane1(const uint8_t* plane, int line, int byte) {
  return plane[8 * line + byte / 8] >> (byte % 8) & 1;
}

int index_at(Code code, const uint8_t* tile, int line, int byte) {
  constexpr int kPlane4Bytes = 512, kPlane2Bytes = 256;
  switch (code) {
    case Code::kW6:
      return plane4(tile, line, byte) | plane2(tile + kPlane4Bytes, line, byte) << 4;
    case Code::kW5:
      return plane4(tile, line, byte) | plane1(tile + kPlane4Bytes, line, byte) << 4;
    case Code::kW3:
      return plane2(tile, line, byte) | plane1(tile + kPlane2Bytes, line, byte) << 2;
    case Code::kW4:
    case Code::kW4x:
      return plane4(tile, line, byte);
    default:  // 8 bits: the stored byte is the level in two's complement, the index its offset form
      return tile[64 * line + byte] ^ 0x80;
  }
}

// The 12 bits of step t of a block's ring.
uint32_t trellis_state(int bits, const uint8_t* block, int t) {
  const int block_bytes = kTrellisSteps / 8 * bits, first = t * bits / 8;
  uint32_t window = 0;
  for (int i = 0; i < 3; ++i) window |= uint32_t{block[(first + i) % block_bytes]} << (8 * i);
  return window >> (t * bits % 8) & (kTrellisStates - 1);
}

}  // namespace

PanelParts panel_parts(const MatrixView& w, const PackedGeometry& g, int64_t panel) {
  const uint8_t* meta = w.meta + panel * g.panel_meta_bytes;
  const uint8_t* after_scales = meta + g.n_scale_blocks * kPanelRows * 2;
  const int multiplier_bits = traits(w.code).multiplier_bits;
  PanelParts parts{w.codes + panel * g.panel_code_bytes, meta, nullptr, nullptr, nullptr};
  if (multiplier_bits > 0) {
    parts.magnitudes = after_scales;
    parts.signs = after_scales + g.n_groups * 8;
  }
  if (multiplier_bits > 5) parts.fifth_bits = parts.signs + g.n_groups * 2;
  return parts;
}

void decode_multipliers(const PackedGeometry& g, const PanelParts& parts, int64_t group,
                        int8_t out[kPanelRows]) {
  if (parts.magnitudes == nullptr) {
    std::fill_n(out, kPanelRows, int8_t{1});
    return;
  }
  const int signs = load_u16(parts.signs + 2 * group);
  const int fifth = parts.fifth_bits ? load_u16(parts.fifth_bits + 2 * group) : 0;
  const int largest = traits(g.code).max_multiplier;
  for (int row = 0; row < kPanelRows; ++row) {
    int magnitude = parts.magnitudes[8 * group + row / 2] >> (4 * (row % 2)) & 15;
    magnitude = std::min(magnitude | (fifth >> row & 1) << 4, largest);
    out[row] = static_cast<int8_t>(signs >> row & 1 ? -magnitude : magnitude);
  }
}

void decode_tile(const PackedGeometry& g, const PanelParts& parts, int64_t tile,
                 int8_t out[kPanelRows][kTileK]) {
  const uint8_t* bytes = parts.codes + tile * g.tile_bytes;
  if (const CodeTraits& t = traits(g.code); t.is_trellis) {
    for (int i = 0; i < kPanelRows * kTileK; ++i)
      out[i % 64 / 4][i / 64 * 4 + i % 4] = trellis_level(
          t.bits,
          trellis_state(t.bits, bytes + i / kTrellisSteps * (g.tile_bytes / 4), i % kTrellisSteps));
    return;
  }
  const int8_t* level = levels(g.code).data();
  int8_t multipliers[2][kPanelRows];
  decode_multipliers(g, parts, 2 * tile, multipliers[0]);
  decode_multipliers(g, parts, 2 * tile + 1, multipliers[1]);
  for (int line = 0; line < 16; ++line)
    for (int byte = 0; byte < 64; ++byte) {
      const int row = byte / 4, k = 4 * line + byte % 4;
      out[row][k] = static_cast<int8_t>(level[index_at(g.code, bytes, line, byte)] *
                                        multipliers[k / kGroupK][row]);
    }
}

float panel_scale(const MatrixView& w, const PanelParts& parts, int64_t block, int row) {
  return scale_to_float(w.scale_type, load_u16(parts.scales + 2 * (block * kPanelRows + row)));
}

MatrixView rows_of(const MatrixView& w, int64_t first, int64_t count) {
  MatrixView part = w;
  part.rows = count;
  if (traits(w.code).is_float) {
    part.codes += first * w.k * traits(w.code).bits / 8;
    return part;
  }
  LAPIDARY_CHECK(first % kPanelRows == 0);
  const PackedGeometry g = packed_geometry(w.code, w.rows, w.k);
  part.codes += first / kPanelRows * g.panel_code_bytes;
  part.meta += first / kPanelRows * g.panel_meta_bytes;
  return part;
}

}  // namespace lapidary
