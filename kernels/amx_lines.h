// The AVX-512 half of the AMX product: unpacks packed tiles to int8 and joins integer sums to y.
#pragma once

#include "kernels/avx512_panel.h"

namespace lapidary::amx {
namespace {

struct Avx512Lines {
  using V = avx512::Vector;

  // Level * multiplier of the tile's 16 lines.
  template <Code C>
  static void unpack(const PackedGeometry& g, const PanelParts& parts, int64_t tile, int8_t* out) {
    const uint8_t* codes = parts.codes + tile * g.tile_bytes;
    const V::Tile<C> packed(codes, 0);
    auto* lines = reinterpret_cast<uint8_t*>(out);
    if constexpr (vnni::kTwoLevel<C>) {
      V::Ints multipliers[vnni::kTileGroups];
      V::multipliers<C>(parts, tile, 0, multipliers);
      for (int half = 0; half < vnni::kTileGroups; ++half) {
        const V::Factors factors = V::factors<C, 0>(multipliers[half]);
#pragma GCC unroll 8
        for (int i = 0; i < vnni::kGroupLines; ++i) {
          const int line = half * vnni::kGroupLines + i;
          V::store(lines + line * vnni::kLineBytes, V::scaled<C>(packed, line, factors));
        }
      }
    } else {
      const V::Ints offset = _mm512_set1_epi8(static_cast<char>(vnni::kOffset<C>));
#pragma GCC unroll 16
      for (int line = 0; line < vnni::kTileLines; ++line)
        V::store(lines + line * vnni::kLineBytes, _mm512_sub_epi8(packed.index(line), offset));
    }
  }

  static V::Floats scales(const MatrixView& w, const PanelParts& parts, int64_t block) {
    return V::load_scales(parts, w.scale_type, block, 0);
  }

  // y = (first ? 0 : y) + float(sums) * (w_scales * x_scale), n_rows or 16 of them.
  static void join(const int32_t* sums, V::Floats w_scales, float x_scale, bool first,
                   int64_t n_rows, float* y) {
    const V::Floats before = first ? V::set(0.0f) : V::load_rows(y, n_rows);
    V::store_rows(y, n_rows,
                  vnni::add_block<V>(before, V::load(reinterpret_cast<const uint8_t*>(sums)),
                                     w_scales, x_scale));
  }
};

}  // namespace
}  // namespace lapidary::amx
