// The parts of one packed panel, and its weights as exact int8, one tile at a time, without
// allocation.
//
// formats/packed_matrix.h says where each bit lies; its unpack_panel returns a panel's integers for
// the quantizer. This is the kernels' view of the same bytes: pointers to walk over, and the
// product level * multiplier that both matmuls need. Scalar; used by the reference and as the
// oracle of the vector decoders.
#pragma once

#include <cstdint>
#include <cstring>

#include "formats/packed_matrix.h"

namespace lapidary {

struct PanelParts {
  const uint8_t* codes;       // n_tiles * tile_bytes
  const uint8_t* scales;      // [n_scale_blocks][16] 16-bit floats
  const uint8_t* magnitudes;  // [n_groups][8] nibble pairs; null for one-level codes
  const uint8_t* signs;       // [n_groups] u16, bit = row; null for one-level codes
  const uint8_t* fifth_bits;  // [n_groups] u16, bit = row; null unless multipliers have 6 bits
};

PanelParts panel_parts(const MatrixView& w, const PackedGeometry& g, int64_t panel);

// The 16 multipliers of a group, signed, magnitudes clamped; all 1 for one-level codes.
void decode_multipliers(const PackedGeometry& g, const PanelParts& parts, int64_t group,
                        int8_t out[kPanelRows]);

// level * multiplier of the tile's 16 rows x 64 k.
void decode_tile(const PackedGeometry& g, const PanelParts& parts, int64_t tile,
                 int8_t out[kPanelRows][kTileK]);

// The 16-bit float of (scale block, row).
float panel_scale(const MatrixView& w, const PanelParts& parts, int64_t block, int row);

}  // namespace lapidary
