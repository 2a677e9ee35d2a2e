// Places in panels.
#include "quantize/block_rounder.h"

#include <algorithm>
#include <cstring>

#include "kernels/pack_lines.h"
#include "kernels/panel.h"

namespace lapidary {
namespace {

int64_t panel_of(const PanelStore& store, const StripBlock& block, int row) {
  return (block.first_row - store.first_row + row) / kPanelRows;
}

uint8_t* tile_at(const PanelStore& store, const StripBlock& block, int row, int k) {
  return store.codes.data() + panel_of(store, block, row) * store.g.panel_code_bytes +
         (block.first_k + k) / kTileK * store.g.tile_bytes;
}

uint8_t* scales_at(const PanelStore& store, const StripBlock& block, int row) {
  return store.meta_of(block, row) +
         block.first_k / traits(store.g.code).scale_k * kPanelRows * sizeof(uint16_t);
}

}  // namespace

int PanelStore::used_columns(const StripBlock& block) const {
  const int64_t used = rotated ? g.padded_k : g.k;
  return static_cast<int>(std::clamp<int64_t>(used - block.first_k, 0, block.n_k));
}

void PanelStore::put_lines(const StripBlock& block, int row, int k, const uint8_t* lines) const {
  pack_tile_lines(g.code, lines, tile_at(*this, block, row, k));
}

void PanelStore::get_lines(const StripBlock& block, int row, int k, uint8_t* lines) const {
  unpack_tile_lines(g.code, tile_at(*this, block, row, k), lines);
}

uint8_t* PanelStore::meta_of(const StripBlock& block, int row) const {
  return meta.data() + panel_of(*this, block, row) * g.panel_meta_bytes;
}

void PanelStore::put_scales(const StripBlock& block, int row, const float* scales) const {
  uint16_t stored[kPanelRows];
  for (int r = 0; r < kPanelRows; ++r) stored[r] = float_to_scale(ScaleType::kF16, scales[r]);
  std::memcpy(scales_at(*this, block, row), stored, sizeof stored);
}

void PanelStore::get_multipliers(const StripBlock& block, int row, int group,
                                 int8_t* multipliers) const {
  MatrixView stored;
  stored.code = g.code;
  stored.codes = codes.data();
  stored.meta = meta.data();
  decode_multipliers(g, panel_parts(stored, g, panel_of(*this, block, row)),
                     block.first_k / kGroupK + group, multipliers);
}

void PanelStore::get_scales(const StripBlock& block, int row, float* scales) const {
  uint16_t stored[kPanelRows];
  std::memcpy(stored, scales_at(*this, block, row), sizeof stored);
  for (int r = 0; r < kPanelRows; ++r) scales[r] = scale_to_float(ScaleType::kF16, stored[r]);
}

}  // namespace lapidary
