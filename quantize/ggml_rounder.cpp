// What each type's values are, and the bytes of a row's block.
#include "quantize/ggml_rounder.h"

#include "formats/error.h"
#include "formats/ggml_blocks.h"
#include "quantize/ggml_search.h"

namespace lapidary {
namespace {

using ggml::BlockSearch, ggml::Choice, ggml::kRows, ggml::Lattice;

std::optional<Lattice> lattice_of(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0:
      return Lattice{.block = 32, .low = -127, .high = 127};
    case GgmlType::kQ5_0:
      return Lattice{.block = 32, .low = -16, .high = 15};
    case GgmlType::kQ4_0:
      return Lattice{.block = 32, .low = -8, .high = 7};
    case GgmlType::kIQ4_NL:
      return Lattice{.block = 32, .is_iq4 = true};
    case GgmlType::kIQ4_XS:
      return Lattice{.is_iq4 = true, .scale_low = -32, .scale_high = 31};
    case GgmlType::kQ4_K:
      return Lattice{.high = 15, .has_minimum = true, .scale_high = 63};
    case GgmlType::kQ5_K:
      return Lattice{.high = 31, .has_minimum = true, .scale_high = 63};
    case GgmlType::kQ6_K:
      return Lattice{.group = 16, .low = -32, .high = 31, .scale_low = -128, .scale_high = 127};
    case GgmlType::kQ3_K:
      return Lattice{.group = 16, .low = -4, .high = 3, .scale_low = -32, .scale_high = 31};
    default:
      return std::nullopt;
  }
}

// A row of a choice as the integers of a block: those of scales, and the levels.
template <class Block>
Block symmetric_block(const Choice& choice, int row, int n_groups) {
  Block block;
  block.scale = float_to_f16(choice.scale[row]);
  for (int g = 0; g < n_groups; ++g) block.scales[g] = static_cast<int8_t>(choice.scales[g][row]);
  for (int k = 0; k < 256; ++k)
    block.q[k] = static_cast<std::remove_reference_t<decltype(block.q[0])>>(choice.levels[k][row]);
  return block;
}

QMinKBlock min_block(const Choice& choice, int row) {
  QMinKBlock block;
  block.scale = float_to_f16(choice.scale[row]);
  block.minimum = float_to_f16(choice.minimum[row]);
  for (int g = 0; g < 8; ++g) {
    block.scales[g] = static_cast<uint8_t>(choice.scales[g][row]);
    block.minima[g] = static_cast<uint8_t>(choice.minima[g][row]);
  }
  for (int k = 0; k < 256; ++k) block.q[k] = static_cast<uint8_t>(choice.levels[k][row]);
  return block;
}

void pack_row(GgmlType type, const Lattice& lattice, const Choice& choice, int row, uint8_t* out) {
  const uint16_t own = float_to_f16(choice.steps[0][row]);
  std::array<int8_t, 32> bytes;
  std::array<uint8_t, 32> indices;
  if (lattice.block == 32)
    for (size_t k = 0; k < 32; ++k) {
      bytes[k] = static_cast<int8_t>(choice.levels[k][row]);
      indices[k] = static_cast<uint8_t>(choice.levels[k][row] - lattice.low);
    }
  switch (type) {
    case GgmlType::kQ8_0:
      return pack_q8_0(own, bytes, out);
    case GgmlType::kQ5_0:
      return pack_q5_0(own, indices, out);
    case GgmlType::kQ4_0:
    case GgmlType::kIQ4_NL:
      return pack_nibbles(own, indices, out);
    case GgmlType::kIQ4_XS:
      return pack(symmetric_block<Iq4XsBlock>(choice, row, 8), out);
    case GgmlType::kQ4_K:
      return pack_q4_k(min_block(choice, row), out);
    case GgmlType::kQ5_K:
      return pack_q5_k(min_block(choice, row), out);
    case GgmlType::kQ6_K:
      return pack(symmetric_block<Q6KBlock>(choice, row, 16), out);
    case GgmlType::kQ3_K:
      return pack(symmetric_block<Q3KBlock>(choice, row, 16), out);
    default:
      LAPIDARY_CHECK(false);
  }
}

}  // namespace

bool is_block_type(GgmlType type) { return lattice_of(type).has_value(); }

GgmlRounder::GgmlRounder(GgmlType type, int64_t k, int64_t first_row, std::span<uint8_t> blocks)
    : type_(type), k_(k), first_row_(first_row), blocks_(blocks) {
  LAPIDARY_CHECK(is_block_type(type) && k % traits(type).block_values == 0);
}

int GgmlRounder::block_k() const { return static_cast<int>(traits(type_).block_values); }

void GgmlRounder::round(const StripBlock& block) {
  if (block.first_k >= k_) {  // padding of the Hessian
    std::fill_n(block.values, block.n_k * kRows, 0.0f);
    return;
  }
  const Lattice lattice = *lattice_of(type_);
  LAPIDARY_CHECK(block.n_k == lattice.block);
  Choice choice{};
  BlockSearch(lattice, block).run(&choice);
  const int64_t row_bytes = block_bytes(type_, k_);
  for (int row = 0; row < block.n_rows; ++row)
    pack_row(type_, lattice, choice, row,
             blocks_.data() + (block.first_row - first_row_ + row) * row_bytes +
                 block_bytes(type_, block.first_k));
}

}  // namespace lapidary
