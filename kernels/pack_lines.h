// Panels from integers in the order of their lines: the fast way to the bytes that
// formats/packed_matrix.h defines and pack_panel makes bit by bit.
//
// Words of eight indices at a time; the compiler's baseline is enough, since this is some tenth of
// the work of rounding.
#pragma once

#include <cstdint>

#include "formats/packed_matrix.h"

namespace lapidary {

// Where weight (row, k) of a panel lies in lines [k / 4][16 rows][4].
constexpr int64_t line_index(int64_t row, int64_t k) {
  return k / 4 * (4 * kPanelRows) + row * 4 + k % 4;
}

inline constexpr int kTileLineBytes = kPanelRows * kTileK;  // indices of a tile, one per byte

// `lines` [16 lines][16 rows][4] are the indices of one tile; out [tile_bytes].
void pack_tile_lines(Code code, const uint8_t* lines, uint8_t* out) noexcept;

// The way back: the indices, or symbols, of one tile.
void unpack_tile_lines(Code code, const uint8_t* tile, uint8_t* lines) noexcept;

// Stores the signed multipliers of one group of 16 rows; `meta` is the panel's, zero at first.
// REQUIRES: a two-level code, magnitudes within its max_multiplier.
void pack_group_multipliers(const PackedGeometry& g, int64_t group, const int8_t* multipliers,
                            uint8_t* meta) noexcept;

// The index that stands for nothing: of the level nearest zero, as pack_panel pads with.
uint8_t padding_index(Code code) noexcept;

}  // namespace lapidary
