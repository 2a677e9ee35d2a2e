// Geometry of packed pages, and the scalar way in and out of them.
#include "formats/kv_page.h"

#include <cstring>

#include "formats/dtype.h"
#include "formats/error.h"

namespace lapidary {
namespace {

constexpr int kLine = 64;

int rounded_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

void add_blocks(KvPageGeometry& page, KvCode code, int end) {
  const KvBlock* last = page.n_blocks > 0 ? &page.blocks[page.n_blocks - 1] : nullptr;
  int first = last ? last->first_dim + last->n_dims : 0;
  while (first < end) {
    LAPIDARY_CHECK(page.n_blocks < kMaxKvBlocks);
    KvBlock& block = page.blocks[page.n_blocks++];
    block.first_dim = first;
    block.n_dims = code == KvCode::kInt8 && end - first > kKvBlockDims ? kKvBlockDims : end - first;
    block.first_padded = page.padded_dim;
    block.padded_dims = rounded_up(block.n_dims, kKvPadDims);
    block.code = code;
    block.offset = page.scales_offset;
    page.padded_dim += block.padded_dims;
    page.scales_offset += kv_units(block) * kv_unit_bytes(code);
    first += block.n_dims;
  }
}

// `count` indices of `bits` bits each, index i at bit i * bits.
void put_bits(const uint8_t* indices, int count, int bits, uint8_t* out) {
  uint32_t held = 0;
  int n_held = 0;
  for (int i = 0; i < count; ++i) {
    held |= uint32_t{indices[i]} << n_held;
    for (n_held += bits; n_held >= 8; n_held -= 8, held >>= 8) *out++ = uint8_t(held);
  }
}
void get_bits(const uint8_t* in, int count, int bits, uint8_t* indices) {
  uint32_t held = 0;
  int n_held = 0;
  for (int i = 0; i < count; ++i, held >>= bits, n_held -= bits) {
    for (; n_held < bits; n_held += 8) held |= uint32_t{*in++} << n_held;
    indices[i] = uint8_t(held & ((1u << bits) - 1));
  }
}

}  // namespace

int kv_bits(KvCode code) {
  switch (code) {
    case KvCode::kInt8:
      return 8;
    case KvCode::k5Bit:
      return 5;
    case KvCode::k4Bit:
      return 4;
    default:
      LAPIDARY_CHECK(code == KvCode::k3Bit);
      return 3;
  }
}

KvPageGeometry kv_page_geometry(KvRole role, KvCode code, int head_dim, int n_rotary) {
  LAPIDARY_CHECK(head_dim > 0 && head_dim <= 1024 && n_rotary >= 0 && n_rotary < head_dim);
  LAPIDARY_CHECK(n_rotary % 2 == 0 && n_rotary <= kKvBlockDims);
  LAPIDARY_CHECK(n_rotary == 0 || role == KvRole::kBoth);
  KvPageGeometry page{};
  page.role = role;
  page.code = code;
  page.head_dim = head_dim;
  page.n_rotary = n_rotary;
  add_blocks(page, KvCode::kInt8, n_rotary);
  add_blocks(page, code, head_dim);
  page.bytes = page.scales_offset + int64_t{page.n_blocks} * kPageTokens * 2;
  return page;
}

KvPlace kv_place(const KvPageGeometry& page, const KvBlock& block, int token, int dim) {
  if (page.role == KvRole::kKeys)
    return {token / 16 * (block.padded_dims / 8) + dim / 8, dim / 4 % 2, token % 16 * 4 + dim % 4};
  return {dim / 32 * 16 + token / 4, dim / 16 % 2, dim % 16 * 4 + token % 4};
}

void pack_kv_units(KvCode code, const uint8_t* lines, int n_units, uint8_t* bits) {
  for (int unit = 0; unit < n_units; ++unit, lines += 2 * kLine, bits += kv_unit_bytes(code)) {
    if (code == KvCode::kInt8)
      std::memcpy(bits, lines, 2 * kLine);
    else if (code == KvCode::k5Bit)
      put_bits(lines, 2 * kLine, 5, bits);
    else if (code == KvCode::k4Bit)
      for (int i = 0; i < kLine; ++i) bits[i] = uint8_t(lines[i] | lines[kLine + i] << 4);
    else
      put_bits(lines, kLine, 6, bits);
  }
}

void unpack_kv_units(KvCode code, const uint8_t* bits, int n_units, uint8_t* lines) {
  for (int unit = 0; unit < n_units; ++unit, lines += 2 * kLine, bits += kv_unit_bytes(code)) {
    if (code == KvCode::kInt8) {
      std::memcpy(lines, bits, 2 * kLine);
    } else if (code == KvCode::k5Bit) {
      get_bits(bits, 2 * kLine, 5, lines);
    } else if (code == KvCode::k4Bit) {
      for (int i = 0; i < kLine; ++i) lines[i] = bits[i] & 15, lines[kLine + i] = bits[i] >> 4;
    } else {
      get_bits(bits, kLine, 6, lines);
      std::memcpy(lines + kLine, lines, kLine);
    }
  }
}

int kv_index_level(const KvPageGeometry& page, const KvBlock& block, uint8_t index, int line) {
  if (block.code == KvCode::kInt8)
    return page.role == KvRole::kKeys ? index - 128 : static_cast<int8_t>(index);
  return block.code == KvCode::k3Bit ? kv_levels(block.code)[2 * index + line]
                                     : kv_levels(block.code)[index];
}

int kv_level(const KvPageGeometry& page, const uint8_t* data, int block, int token, int dim) {
  const KvBlock& b = page.blocks[block];
  const KvPlace place = kv_place(page, b, token, dim);
  uint8_t lines[2 * kLine];
  unpack_kv_units(b.code, data + b.offset + place.unit * kv_unit_bytes(b.code), 1, lines);
  return kv_index_level(page, b, lines[place.line * kLine + place.byte], place.line);
}

float kv_scale(const KvPageGeometry& page, const uint8_t* data, int block, int token) {
  uint16_t bits;
  std::memcpy(&bits, data + page.scales_offset + 2 * (block * kPageTokens + token), 2);
  return f16_to_float(bits) * kKvScaleUnit;
}

void decode_kv_page(const KvPageGeometry& page, const uint8_t* data, float* out) {
  for (int b = 0; b < page.n_blocks; ++b)
    for (int token = 0; token < kPageTokens; ++token)
      for (int dim = 0; dim < page.blocks[b].n_dims; ++dim)
        out[token * page.head_dim + page.blocks[b].first_dim + dim] =
            static_cast<float>(kv_level(page, data, b, token, dim)) *
            kv_scale(page, data, b, token);
}

}  // namespace lapidary
