// The fast packers give the bytes of formats' bit by bit ones.
#include "kernels/pack_lines.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/panel.h"

namespace lapidary {
namespace {

TEST(PackLines, TilesAndMultipliersLieWherePackPanelPutsThem) {
  for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                          Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6}) {
    const PackedGeometry g = packed_geometry(code, kPanelRows, 192);
    const CodeTraits& t = traits(code);
    std::mt19937 random(static_cast<unsigned>(t.bits));
    PanelIntegers panel(g);
    EXPECT_EQ(padding_index(code), panel.indices[0]);
    for (uint8_t& index : panel.indices) index = static_cast<uint8_t>(random() % (1u << t.bits));
    for (int8_t& m : panel.multipliers)
      m = static_cast<int8_t>(static_cast<int>(random() % (2u * t.max_multiplier + 1)) -
                              t.max_multiplier);
    std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
    std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
    pack_panel(g, panel, codes, meta);

    std::vector<uint8_t> fast_codes(codes.size(), 0xee), fast_meta(meta.size());
    for (int64_t tile = 0; tile < g.n_tiles; ++tile) {
      uint8_t lines[kTileLineBytes];
      for (int64_t k = 0; k < kTileK; ++k)
        for (int row = 0; row < kPanelRows; ++row)
          lines[k / 4 * 64 + row * 4 + k % 4] =
              panel.indices[static_cast<size_t>(row * g.padded_k + tile * kTileK + k)];
      pack_tile_lines(code, lines, fast_codes.data() + tile * g.tile_bytes);
      uint8_t back[kTileLineBytes];
      unpack_tile_lines(code, fast_codes.data() + tile * g.tile_bytes, back);
      EXPECT_TRUE(std::equal(lines, lines + kTileLineBytes, back)) << code_name(code);
    }
    MatrixView packed;
    packed.code = code;
    packed.codes = fast_codes.data();
    packed.meta = fast_meta.data();
    for (int64_t group = 0; t.multiplier_bits > 0 && group < g.n_groups; ++group) {
      int8_t multipliers[kPanelRows];
      for (int row = 0; row < kPanelRows; ++row)
        multipliers[row] = panel.multipliers[static_cast<size_t>(row * g.n_groups + group)];
      pack_group_multipliers(g, group, multipliers, fast_meta.data());
      int8_t back[kPanelRows];
      decode_multipliers(g, panel_parts(packed, g, 0), group, back);
      EXPECT_TRUE(std::equal(multipliers, multipliers + kPanelRows, back)) << code_name(code);
    }
    EXPECT_EQ(fast_codes, codes) << code_name(code);
    EXPECT_EQ(fast_meta, meta) << code_name(code);  // the scales are zero in both
  }
}

}  // namespace
}  // namespace lapidary
