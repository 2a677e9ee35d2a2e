// Packing pages, preparing queries, the shared basis: the table's functions put together.
#include "kernels/kv_pages.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/dtype.h"

namespace lapidary {
namespace {

constexpr uint16_t kHalfNan = 0x7e00;
constexpr int kMaxHead = 1024 + kKvPadDims * kMaxKvBlocks;

// The dims of a block in the order the level search wants: at 3 bits (i, i + 16) of each 32 are a
// pair, which for keys are the dims (i, i + 4) of each 8.
int search_order(const KvPageGeometry& page, const KvBlock& block, int dim) {
  if (block.code != KvCode::k3Bit || page.role != KvRole::kKeys) return dim;
  const int in_group = dim % 32;
  return dim - in_group + in_group / 4 % 2 * 16 + in_group / 8 * 4 + in_group % 4;
}

bool load_block(const KvPageGeometry& page, const KvBlock& block, const uint16_t* row, float* x) {
  std::fill_n(x, block.padded_dims, 0.0f);
  bool finite = true;
  for (int dim = 0; dim < block.n_dims; ++dim) {
    const float value = bf16_to_float(row[block.first_dim + dim]);
    finite &= std::isfinite(value);
    x[search_order(page, block, dim)] = value;
  }
  return finite;
}

// Exact in double: 1024 squares of int8.
double sum_square_levels(const KvBlock& block, const uint8_t* indices) {
  const int8_t* levels = kv_levels(block.code);
  int64_t sum = 0;
  for (int dim = 0; dim < block.n_dims; ++dim) {
    const int level = block.code == KvCode::k3Bit ? levels[2 * indices[dim] + dim / 16 % 2]
                                                  : levels[indices[dim]];
    sum += level * level;
  }
  return static_cast<double>(sum);
}

uint16_t gain_bits(const KvPageGeometry& page, const KvBlock& block, const KvSums& sums,
                   const uint8_t* indices) {
  if (!(sums.dot > 0)) return 0;
  const double gain = page.role == KvRole::kValues
                          ? double{sums.dot} / sum_square_levels(block, indices)
                          : double{sums.square} / double{sums.dot};
  return float_to_f16(std::min(static_cast<float>(gain) / kKvScaleUnit, 65504.0f));
}

// One vector's indices [padded_dims], in the order of dims, and its scale.
uint16_t encode_block(const KernelTable& kernels, const KvPageGeometry& page, const KvBlock& block,
                      const uint16_t* row, uint8_t* indices) {
  alignas(64) float x[kMaxHead];
  alignas(64) uint8_t found[kMaxHead];
  if (!load_block(page, block, row, x)) {
    std::fill_n(indices, block.padded_dims, uint8_t{0});
    return kHalfNan;
  }
  if (block.code == KvCode::kInt8) {
    const uint16_t scale =
        kernels.quantize_kv(x, block.padded_dims, reinterpret_cast<int8_t*>(indices));
    if (page.role == KvRole::kKeys)
      for (int i = 0; i < block.padded_dims; ++i) indices[i] ^= 0x80;
    return scale;
  }
  const KvSums sums =
      kernels.choose_kv_levels(block.code, x, block.padded_dims, block.n_dims, found);
  for (int dim = 0; dim < block.padded_dims; ++dim)
    indices[dim] = found[search_order(page, block, dim)];
  return gain_bits(page, block, sums, indices);
}

void place_indices(const KvPageGeometry& page, const KvBlock& block, int token,
                   const uint8_t* indices, uint8_t* lines) {
  for (int dim = 0; dim < block.padded_dims; ++dim) {
    const KvPlace place = kv_place(page, block, token, dim);
    lines[(place.unit * 2 + place.line) * 64 + place.byte] = indices[dim];
  }
}

int64_t plane_bytes(const KvPageGeometry& keys) { return (keys.padded_dim + 63) / 64 * 64; }

}  // namespace

void pack_kv_page(const KernelTable& kernels, const KvPageGeometry& page, const uint16_t* rows,
                  int64_t stride, uint8_t* data) noexcept {
  alignas(64) uint8_t indices[kMaxHead];
  alignas(64) uint8_t lines[kMaxHead * kPageTokens];
  uint16_t scales[kPageTokens];
  for (int b = 0; b < page.n_blocks; ++b) {
    const KvBlock& block = page.blocks[b];
    for (int token = 0; token < kPageTokens; ++token) {
      scales[token] = encode_block(kernels, page, block, rows + token * stride, indices);
      place_indices(page, block, token, indices, lines);
    }
    pack_kv_units(block.code, lines, kv_units(block), data + block.offset);
    std::memcpy(data + page.scales_offset + int64_t{b} * kPageTokens * 2, scales, sizeof scales);
  }
}

int64_t packed_query_bytes(const KvPageGeometry& keys) {
  const int64_t rest = int64_t{sizeof(float)} + 2 * keys.n_blocks * int64_t{sizeof(int32_t)};
  return 2 * plane_bytes(keys) + (rest + 63) / 64 * 64;
}

PackedQuery packed_query(const KvPageGeometry& keys, const uint8_t* rows, int64_t row) {
  const uint8_t* at = rows + row * packed_query_bytes(keys);
  const uint8_t* rest = at + 2 * plane_bytes(keys);
  PackedQuery query;
  query.high = reinterpret_cast<const int8_t*>(at);
  query.low = query.high + plane_bytes(keys);
  query.scale = *reinterpret_cast<const float*>(rest);
  query.sums = reinterpret_cast<const int32_t*>(rest) + 1;
  return query;
}

void pack_queries(const KernelTable& kernels, const KvPageGeometry& keys, const AttentionTile& tile,
                  uint8_t* out) noexcept {
  alignas(64) float q[kMaxHead];
  const int width = keys.padded_dim;
  for (int64_t row = 0; row < int64_t{tile.n_tokens} * tile.group; ++row) {
    const float* from =
        tile.q + row / tile.group * tile.q_stride + row % tile.group * tile.head_dim;
    std::fill_n(q, width, 0.0f);
    for (int b = 0; b < keys.n_blocks; ++b) {
      const KvBlock& block = keys.blocks[b];
      if (block.first_dim < keys.n_rotary) continue;  // stay floats
      std::copy_n(from + block.first_dim, block.n_dims, q + block.first_padded);
    }
    uint8_t* at = out + row * packed_query_bytes(keys);
    const PackedQuery query = packed_query(keys, out, row);
    auto* high = reinterpret_cast<int8_t*>(at);
    auto* low = high + plane_bytes(keys);
    const float scale = kernels.split_query(q, width, high, low);
    std::memcpy(at + 2 * plane_bytes(keys), &scale, sizeof scale);
    auto* sums = const_cast<int32_t*>(query.sums);
    for (int b = 0; b < keys.n_blocks; ++b) {
      sums[2 * b] = sums[2 * b + 1] = 0;
      for (int i = 0; i < keys.blocks[b].padded_dims; ++i) {
        sums[2 * b] += high[keys.blocks[b].first_padded + i];
        sums[2 * b + 1] += low[keys.blocks[b].first_padded + i];
      }
    }
  }
}

}  // namespace lapidary
