// Where every bit of a packed page lies: 64 tokens of one K/V head at 8, 5, 4 or 3 bits a value.
//
//   value = level(index) * scale / 128
//
// A page is cut into blocks of dims, one scale per token and block: 128 dims at 8 bits, the whole
// head vector at fewer. Block after block come the indices, then a strip of fp16 scales
// [n_blocks, 64]. Indices stand in units of 128 values, two lines A and B of 64:
//   keys    unit (token / 16, dim / 8):  line dim / 4 % 2,  byte token % 16 * 4 + dim % 4
//   values  unit (dim / 32, token / 4):  line dim / 16 % 2, byte dim % 16 * 4 + token % 4
// so that each 32-bit word holds what one integer dot product adds up: 4 dims of a key, 4 tokens of
// a value. Bits of a unit:
//   8: A, then B, as int8; keys have 128 added to the level (unsigned)
//   5: A, then B, 40 bytes each, index i at bit 5 i
//   4: byte i = A[i] | B[i] << 4
//   3: index i of the pair (A[i], B[i]) at bit 6 i, 48 bytes
// Pages of values that also serve as keys (k_eq_v layers) have the layout of values. Their first
// block are the rotary dims, always at 8 bits; then the others, in the page's code.
//
// Levels are int8. 4 and 5 bits: Lloyd-Max for a Gaussian (Max, «Quantizing for minimum
// distortion», 1960); 3 bits: 64 points in the plane, trained for a Gaussian pair (Linde, Buzo &
// Gray, 1980). Rotation (kernels/) makes head vectors Gaussian.
#pragma once

#include <cstdint>

#include "formats/kv_code.h"

namespace lapidary {

enum class KvRole : uint8_t { kKeys, kValues, kBoth };

inline constexpr int kKvBlockDims = 128;           // values under one scale at 8 bits
inline constexpr int kKvPadDims = 32;              // blocks are padded to a multiple of it
inline constexpr int kMaxKvBlocks = 10;            // heads of up to 1024 dims
inline constexpr int kKvUnitValues = 128;          // two lines of 64
inline constexpr float kKvScaleUnit = 1.0f / 128;  // keeps fp16 scales off the subnormals

// Bits of one value. REQUIRES: is_packed(code).
int kv_bits(KvCode code);

struct KvBlock {
  int first_dim, n_dims;  // of the head vector
  int first_padded;       // the same among padded dims
  int padded_dims;
  KvCode code;
  int64_t offset;  // bytes from the start of the page
};

struct KvPageGeometry {
  KvRole role;
  KvCode code;
  int head_dim;
  int n_rotary;    // kBoth: the first dims, 8 bits; else 0
  int padded_dim;  // of all blocks
  int n_blocks;
  KvBlock blocks[kMaxKvBlocks];
  int64_t scales_offset;  // [n_blocks, 64] fp16
  int64_t bytes;          // of the page, a multiple of 128
};

// REQUIRES: is_packed(code), 0 < head_dim <= 1024; n_rotary even, at most 128 (one block), less
// than head_dim, and 0 unless role is kBoth.
KvPageGeometry kv_page_geometry(KvRole role, KvCode code, int head_dim, int n_rotary = 0);

// Levels by index: [32] or [16], ascending; 3 bits: [64, 2], the pair (A, B). And the level that
// stands for one standard deviation.
const int8_t* kv_levels(KvCode code);
float kv_deviation(KvCode code);

// Place of a value inside its block: byte of line `line` of unit `unit`. dim counts from the
// block's first.
struct KvPlace {
  int unit, line, byte;
};
KvPlace kv_place(const KvPageGeometry& page, const KvBlock& block, int token, int dim);

// Units of one block, from indices to bits and back. `lines` holds one index per byte, [units, 2,
// 64]; at 3 bits line A has the pair's index and line B is not read, and written as A.
void pack_kv_units(KvCode code, const uint8_t* lines, int n_units, uint8_t* bits);
void unpack_kv_units(KvCode code, const uint8_t* bits, int n_units, uint8_t* lines);
inline int64_t kv_unit_bytes(KvCode code) { return kKvUnitValues * kv_bits(code) / 8; }
inline int kv_units(const KvBlock& block) { return block.padded_dims * kPageTokens / 128; }

// The level of an index found on line 0 or 1 of a unit.
int kv_index_level(const KvPageGeometry& page, const KvBlock& block, uint8_t index, int line);
// One value of a page as its level, and one block's scale of a token, kKvScaleUnit included.
int kv_level(const KvPageGeometry& page, const uint8_t* data, int block, int token, int dim);
float kv_scale(const KvPageGeometry& page, const uint8_t* data, int block, int token);
// The page as floats, [64, head_dim].
void decode_kv_page(const KvPageGeometry& page, const uint8_t* data, float* out);

}  // namespace lapidary
