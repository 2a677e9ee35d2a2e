// Geometry of panels, and the scalar pack and unpack that define where each bit lies.
//
// Written to be compared with the header's description line by line, not to be fast: kernels/ has
// the fast paths and is tested against this.
#include "formats/packed_matrix.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "formats/error.h"
#include "formats/trellis.h"

namespace lapidary {
namespace {

constexpr int kLines = kTileK / 4;                        // lines of one tile
constexpr int kLineBytes = kPanelRows * 4;                // weights of one line
constexpr int kTileWeights = kPanelRows * kTileK;         // 1024
constexpr int kMaskBytes = kPanelRows / 8;                // one bit per row
constexpr int kNibbleBytes = kPanelRows / 2;              // four bits per row
constexpr int64_t kMaxMatrixElements = int64_t{1} << 48;  // products below stay far from overflow

// A plane keeps `bits` bits of every index of a tile, from bit `shift` on.
struct Plane {
  int bits, shift;
};

std::span<const Plane> planes(Code code) {
  static constexpr Plane k8[] = {{8, 0}};
  static constexpr Plane k6[] = {{4, 0}, {2, 4}};
  static constexpr Plane k5[] = {{4, 0}, {1, 4}};
  static constexpr Plane k4[] = {{4, 0}};
  static constexpr Plane k3[] = {{2, 0}, {1, 2}};
  switch (traits(code).bits) {
    case 8:
      return k8;
    case 6:
      return k6;
    case 5:
      return k5;
    case 4:
      return k4;
    default:
      return k3;
  }
}

int plane_bytes(const Plane& plane) { return kTileWeights / 8 * plane.bits; }

// `tile` holds 1024 indices in line order: [16 lines][64].
void pack_plane(const Plane& plane, const uint8_t* tile, uint8_t* out) {
  std::memset(out, 0, static_cast<size_t>(plane_bytes(plane)));
  if (plane.bits == 1) {
    for (int i = 0; i < kTileWeights; ++i)
      out[i / 8] |= static_cast<uint8_t>(((tile[i] >> plane.shift) & 1) << (i % 8));
    return;
  }
  // Byte p of the plane holds 8 / bits weights that lie a whole plane apart.
  const int stride = plane_bytes(plane);
  const int mask = (1 << plane.bits) - 1;
  for (int i = 0; i < kTileWeights; ++i) {
    const int value = (tile[i] >> plane.shift) & mask;
    out[i % stride] |= static_cast<uint8_t>(value << (i / stride * plane.bits));
  }
}

void unpack_plane(const Plane& plane, const uint8_t* in, uint8_t* tile) {
  if (plane.bits == 1) {
    for (int i = 0; i < kTileWeights; ++i)
      tile[i] |= static_cast<uint8_t>(((in[i / 8] >> (i % 8)) & 1) << plane.shift);
    return;
  }
  const int stride = plane_bytes(plane);
  const int mask = (1 << plane.bits) - 1;
  for (int i = 0; i < kTileWeights; ++i) {
    const int value = (in[i % stride] >> (i / stride * plane.bits)) & mask;
    tile[i] |= static_cast<uint8_t>(value << plane.shift);
  }
}

// A trellis code's tile: the symbols in line order as a string of bits.
void pack_symbols(int bits, const uint8_t* tile, uint8_t* out) {
  std::memset(out, 0, static_cast<size_t>(kTileWeights / 8 * bits));
  for (int i = 0; i < kTileWeights; ++i)
    for (int bit = 0; bit < bits; ++bit)
      out[(i * bits + bit) / 8] |=
          static_cast<uint8_t>((tile[i] >> bit & 1) << ((i * bits + bit) % 8));
}

void unpack_symbols(int bits, const uint8_t* in, uint8_t* tile) {
  for (int i = 0; i < kTileWeights; ++i)
    for (int bit = 0; bit < bits; ++bit)
      tile[i] |=
          static_cast<uint8_t>((in[(i * bits + bit) / 8] >> ((i * bits + bit) % 8) & 1) << bit);
}

// Index i of a tile in line order is row (i % 64) / 4, input 4 * (i / 64) + i % 4.
int64_t element_of(int i, int64_t tile, int64_t padded_k) {
  const int row = i % kLineBytes / 4;
  return row * padded_k + tile * kTileK + i / kLineBytes * 4 + i % 4;
}

// Eight-bit codes are stored as the level itself, so that kernels read int8 without a subtraction.
uint8_t stored_flip(Code code) { return traits(code).bits == 8 ? 0x80 : 0; }

uint8_t zero_index(Code code) {
  if (traits(code).is_trellis) return 0;  // no symbol stands for zero
  const std::span<const int8_t> table = levels(code);
  const auto nearest = std::min_element(
      table.begin(), table.end(), [](int8_t a, int8_t b) { return std::abs(a) < std::abs(b); });
  return static_cast<uint8_t>(nearest - table.begin());
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

PackedGeometry packed_geometry(Code code, int64_t rows, int64_t k) {
  const CodeTraits& t = traits(code);
  LAPIDARY_CHECK(!t.is_float && rows > 0 && k > 0 && rows < kMaxMatrixElements / k);
  PackedGeometry g{};
  g.code = code;
  g.rows = rows;
  g.k = k;
  g.n_panels = ceil_div(rows, kPanelRows);
  g.n_tiles = ceil_div(k, kTileK);
  g.padded_rows = g.n_panels * kPanelRows;
  g.padded_k = g.n_tiles * kTileK;
  g.n_groups = g.padded_k / kGroupK;
  g.n_scale_blocks = ceil_div(g.padded_k, t.scale_k);
  g.tile_bytes = kTileWeights / 8 * t.bits;
  g.panel_code_bytes = g.n_tiles * g.tile_bytes;
  g.panel_meta_bytes = g.n_scale_blocks * kPanelRows * 2;
  if (t.multiplier_bits > 0) {
    const int masks =
        t.multiplier_bits - 4;  // the sign, and the fifth magnitude bit if there is one
    g.panel_meta_bytes += g.n_groups * (kNibbleBytes + masks * kMaskBytes);
  }
  g.code_bytes = g.n_panels * g.panel_code_bytes;
  g.meta_bytes = g.n_panels * g.panel_meta_bytes;
  return g;
}

PanelIntegers::PanelIntegers(const PackedGeometry& g)
    : indices(static_cast<size_t>(kPanelRows * g.padded_k), zero_index(g.code)),
      multipliers(traits(g.code).multiplier_bits > 0 ? static_cast<size_t>(kPanelRows * g.n_groups)
                                                     : 0),
      scales(static_cast<size_t>(kPanelRows * g.n_scale_blocks)) {}

void pack_panel(const PackedGeometry& g, const PanelIntegers& in, std::span<uint8_t> codes,
                std::span<uint8_t> meta) {
  LAPIDARY_CHECK(static_cast<int64_t>(codes.size()) == g.panel_code_bytes);
  LAPIDARY_CHECK(static_cast<int64_t>(meta.size()) == g.panel_meta_bytes);
  const uint8_t flip = stored_flip(g.code);
  uint8_t lines[kTileWeights];
  uint8_t* out = codes.data();
  for (int64_t tile = 0; tile < g.n_tiles; ++tile) {
    for (int i = 0; i < kTileWeights; ++i)
      lines[i] = in.indices[static_cast<size_t>(element_of(i, tile, g.padded_k))] ^ flip;
    if (traits(g.code).is_trellis) {
      pack_symbols(traits(g.code).bits, lines, out);
      out += g.tile_bytes;
      continue;
    }
    for (const Plane& plane : planes(g.code)) {
      pack_plane(plane, lines, out);
      out += plane_bytes(plane);
    }
  }

  uint8_t* at = meta.data();
  for (int64_t block = 0; block < g.n_scale_blocks; ++block)
    for (int row = 0; row < kPanelRows; ++row) {
      const uint16_t scale = in.scales[static_cast<size_t>(row * g.n_scale_blocks + block)];
      *at++ = static_cast<uint8_t>(scale & 0xff);
      *at++ = static_cast<uint8_t>(scale >> 8);
    }
  const CodeTraits& t = traits(g.code);
  if (t.multiplier_bits == 0) return;
  uint8_t* nibbles = at;
  uint8_t* signs = nibbles + g.n_groups * kNibbleBytes;
  uint8_t* fifths = signs + g.n_groups * kMaskBytes;  // only w3 has them
  std::memset(nibbles, 0, static_cast<size_t>(meta.data() + meta.size() - nibbles));
  for (int row = 0; row < kPanelRows; ++row)
    for (int64_t group = 0; group < g.n_groups; ++group) {
      const int multiplier = in.multipliers[static_cast<size_t>(row * g.n_groups + group)];
      const int magnitude = std::abs(multiplier);
      LAPIDARY_CHECK(magnitude <= t.max_multiplier);
      const int64_t mask_byte = group * kMaskBytes + row / 8;
      const uint8_t row_bit = static_cast<uint8_t>(1 << (row % 8));
      nibbles[group * kNibbleBytes + row / 2] |=
          static_cast<uint8_t>((magnitude & 15) << (row % 2 * 4));
      if (multiplier < 0) signs[mask_byte] |= row_bit;
      if (magnitude & 16) fifths[mask_byte] |= row_bit;
    }
}

PanelIntegers unpack_panel(const PackedGeometry& g, std::span<const uint8_t> codes,
                           std::span<const uint8_t> meta) {
  LAPIDARY_CHECK(static_cast<int64_t>(codes.size()) == g.panel_code_bytes);
  LAPIDARY_CHECK(static_cast<int64_t>(meta.size()) == g.panel_meta_bytes);
  PanelIntegers out(g);
  const uint8_t flip = stored_flip(g.code);
  uint8_t lines[kTileWeights];
  const uint8_t* in = codes.data();
  for (int64_t tile = 0; tile < g.n_tiles; ++tile) {
    std::memset(lines, 0, sizeof lines);
    if (traits(g.code).is_trellis) {
      unpack_symbols(traits(g.code).bits, in, lines);
      in += g.tile_bytes;
    } else {
      for (const Plane& plane : planes(g.code)) {
        unpack_plane(plane, in, lines);
        in += plane_bytes(plane);
      }
    }
    for (int i = 0; i < kTileWeights; ++i)
      out.indices[static_cast<size_t>(element_of(i, tile, g.padded_k))] = lines[i] ^ flip;
  }

  const uint8_t* at = meta.data();
  for (int64_t block = 0; block < g.n_scale_blocks; ++block)
    for (int row = 0; row < kPanelRows; ++row, at += 2)
      out.scales[static_cast<size_t>(row * g.n_scale_blocks + block)] =
          static_cast<uint16_t>(at[0] | (at[1] << 8));
  const CodeTraits& t = traits(g.code);
  if (t.multiplier_bits == 0) return out;
  const uint8_t* nibbles = at;
  const uint8_t* signs = nibbles + g.n_groups * kNibbleBytes;
  const uint8_t* fifths = signs + g.n_groups * kMaskBytes;
  const bool has_fifths = t.multiplier_bits == 6;
  for (int row = 0; row < kPanelRows; ++row)
    for (int64_t group = 0; group < g.n_groups; ++group) {
      const int64_t mask_byte = group * kMaskBytes + row / 8;
      int magnitude = (nibbles[group * kNibbleBytes + row / 2] >> (row % 2 * 4)) & 15;
      if (has_fifths) magnitude |= ((fifths[mask_byte] >> (row % 8)) & 1) << 4;
      magnitude = std::min(magnitude, t.max_multiplier);
      const bool negative = (signs[mask_byte] >> (row % 8)) & 1;
      out.multipliers[static_cast<size_t>(row * g.n_groups + group)] =
          static_cast<int8_t>(negative ? -magnitude : magnitude);
    }
  return out;
}

std::vector<int8_t> panel_weights(const PackedGeometry& g, const PanelIntegers& panel) {
  std::vector<int8_t> out(panel.indices.size());
  if (traits(g.code).is_trellis) {
    uint8_t symbols[kTrellisSteps];
    int8_t weights[kTrellisSteps];
    for (int64_t k = 0; k < g.padded_k; k += kTrellisBlockK) {
      const auto place = [&](int t) {
        return static_cast<size_t>(element_of(t, 0, g.padded_k) + k);
      };
      for (int t = 0; t < kTrellisSteps; ++t) symbols[t] = panel.indices[place(t)];
      trellis_levels(traits(g.code).bits, symbols, weights);
      for (int t = 0; t < kTrellisSteps; ++t) out[place(t)] = weights[t];
    }
    return out;
  }
  const std::span<const int8_t> table = levels(g.code);
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / g.padded_k,
                  k = static_cast<int64_t>(i) % g.padded_k;
    const int multiplier =
        panel.multipliers.empty()
            ? 1
            : panel.multipliers[static_cast<size_t>(row * g.n_groups + k / kGroupK)];
    out[i] = static_cast<int8_t>(table[panel.indices[i]] * multiplier);
  }
  return out;
}

}  // namespace lapidary
