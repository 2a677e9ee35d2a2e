// Where every bit of a quantized matrix lies, and the scalar pack and unpack that define it.
//
// Panels. A matrix [rows, k] is cut into panels of 16 rows; rows are padded to 16 and k to 64 with
// zero weights (index of level nearest zero, scale 0). A panel is a run of tiles of 16 rows x 64 k,
// a tile is 16 lines of 64 int8: line j holds k = 4j..4j+3 of all 16 rows, byte 4*row + (k % 4).
// That is one VNNI operand and one row of an AMX B tile. Narrow codes are planes over these lines:
//
//   8 bits   lines 0..15 as bytes, two's complement of the level
//   4-bit plane, 512 bytes   stored line j (0..7): low nibble = line j, high nibble = line j + 8
//   2-bit plane, 256 bytes   stored line j (0..3): bits 2i..2i+1 = line j + 4i
//   1-bit plane, 128 bytes   line j is the 64-bit little-endian word at 8j: bit b = byte b of the
//   line w6 = low 4 bits, then high 2;  w5 = low 4, then high 1;  w3 = low 2, then high 1
//
// Trellis codes have no planes: each block of 16 rows x 16 k, four lines, is one sequence of 256
// steps (formats/trellis.h), step t being byte t of the four lines. Its symbols are a little-endian
// string of bits, 32 K bytes: weight t is decoded from the 12 bits at bit K t of the block, the
// block's first bits following its last. So the windows of line j of a block start at its byte
// 8 K j, and two rows of a line (eight windows) are K bytes further each.
//
// A tensor's bytes: all code bytes (panel after panel), then all meta bytes (panel after panel).
// One panel's meta: scales [n_scale_blocks][16] 16-bit; then, for two-level codes, multipliers:
// magnitude nibbles [n_groups][8] (low nibble = even row), sign masks [n_groups] u16 (bit = row),
// and with 6-bit multipliers the fifth magnitude bit [n_groups] u16. The last scale block may be
// short. A stack of experts [E, rows, k] is E matrices one after another: codes of all, then meta
// of all.
//
// Rotation. When `rotated`, k was multiplied by signs and a Walsh-Hadamard transform per 64, so
// inputs must be rotated the same way (kernels/: rotate). Here lies only the sign pattern.
//
// Row tables (per-layer embeddings) are addressed by row instead: see RowTableGeometry.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/code.h"

namespace lapidary {

inline constexpr int kPanelRows = 16;
inline constexpr int kTileK = 64;

// Signs of the rotation, the same for each block of 64: bit i set means input i is negated before
// the transform. Any fixed balanced pattern serves; this is the fraction of the golden ratio.
inline constexpr uint64_t kRotationSigns = 0x9E3779B97F4A7C15ull;

struct PackedGeometry {
  Code code;
  int64_t rows, k;                // logical, of one matrix
  int64_t padded_rows, padded_k;  // multiples of 16 and 64
  int64_t n_panels, n_tiles;      // n_tiles per panel
  int64_t n_groups;               // padded_k / 32
  int64_t n_scale_blocks;         // ceil(padded_k / scale_k)
  int64_t tile_bytes;             // code bytes of one tile
  int64_t panel_code_bytes, panel_meta_bytes;
  int64_t code_bytes, meta_bytes;  // of one matrix
};

// REQUIRES: a quantized code, rows > 0, k > 0, rows * k < 2^48.
PackedGeometry packed_geometry(Code code, int64_t rows, int64_t k);

// One panel as integers: what the quantizer decides and what unpacking returns.
struct PanelIntegers {
  std::vector<uint8_t> indices;     // [16][padded_k]; symbols in trellis codes
  std::vector<int8_t> multipliers;  // [16][n_groups], signed; empty for one-level codes
  std::vector<uint16_t> scales;     // [16][n_scale_blocks], 16-bit floats
  explicit PanelIntegers(const PackedGeometry& g);  // all weights zero
};

// REQUIRES: codes.size() == panel_code_bytes, meta.size() == panel_meta_bytes.
void pack_panel(const PackedGeometry& g, const PanelIntegers& in, std::span<uint8_t> codes,
                std::span<uint8_t> meta);
// Any bytes are valid input; magnitudes above max_multiplier are clamped to it.
PanelIntegers unpack_panel(const PackedGeometry& g, std::span<const uint8_t> codes,
                           std::span<const uint8_t> meta);

// level * multiplier of a panel: [16][padded_k].
std::vector<int8_t> panel_weights(const PackedGeometry& g, const PanelIntegers& panel);

// A matrix where it lies in memory, packed or float. Does not own. Float matrices are row-major
// [rows, k] at `codes`; `meta` is null. Packed: codes is 64-byte aligned, meta 2-byte aligned.
struct MatrixView {
  Code code = Code::kF32;
  int64_t rows = 0, k = 0;
  bool rotated = false;
  ScaleType scale_type = ScaleType::kF16;
  const uint8_t* codes = nullptr;
  const uint8_t* meta = nullptr;
};

// Row tables: tensor [n_rows, n_layers * width]; the record of (row, layer) stands alone:
//   scales [n_scales] 16-bit little-endian; multipliers as a bit string of n_groups *
//   multiplier_bits (magnitude in the low bits, sign in the top bit), only if n_groups > 1, padded
//   to a byte; indices as a bit string of width * bits, padded to a byte. Bit strings fill bytes
//   from bit 0. In trellis codes each scale block is one sequence; width is a multiple of 32.
// Groups are min(32, width) wide, scale blocks min(scale_k, width). Records of one row are
// consecutive. Float codes: width * dtype bytes.
struct RowTableGeometry {
  Code code;
  int64_t n_rows, n_layers, width;
  int64_t n_groups, n_scales;
  int64_t record_bytes;  // one row of one layer
  int64_t row_bytes;     // all layers
  int64_t bytes;
};
RowTableGeometry row_table_geometry(Code code, int64_t n_rows, int64_t n_layers, int64_t width);

struct RecordIntegers {
  std::vector<uint8_t> indices;     // [width]
  std::vector<int8_t> multipliers;  // [n_groups]; all 1 when not stored
  std::vector<uint16_t> scales;     // [n_scales]
};
void pack_record(const RowTableGeometry& g, const RecordIntegers& in, std::span<uint8_t> out);
// Dequantizes one record to floats [width]. Any bytes are valid input.
void unpack_record(const RowTableGeometry& g, ScaleType scale_type, std::span<const uint8_t> record,
                   std::span<float> out);

}  // namespace lapidary
