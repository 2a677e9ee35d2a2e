// Panels: pack and unpack agree, bits lie where the header says, and sizes are those promised in
// the table of codes.
#include "formats/packed_matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <string>

namespace lapidary {
namespace {

constexpr Code kPackedCodes[] = {Code::kW8,  Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                                 Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6};

PanelIntegers random_panel(const PackedGeometry& g, std::mt19937& random) {
  PanelIntegers panel(g);
  const CodeTraits& t = traits(g.code);
  for (uint8_t& index : panel.indices) index = static_cast<uint8_t>(random() % (1u << t.bits));
  for (int8_t& m : panel.multipliers)
    m = static_cast<int8_t>(static_cast<int>(random() % (2 * t.max_multiplier + 1)) -
                            t.max_multiplier);
  for (uint16_t& scale : panel.scales) scale = static_cast<uint16_t>(random());
  return panel;
}

double bits_per_weight(Code code, int64_t rows, int64_t k) {
  const PackedGeometry g = packed_geometry(code, rows, k);
  return 8.0 * static_cast<double>(g.code_bytes + g.meta_bytes) / static_cast<double>(rows * k);
}

class PackedMatrixCodes : public testing::TestWithParam<Code> {};

void expect_round_trip(Code code, int64_t rows, int64_t k, std::mt19937& random) {
  const PackedGeometry g = packed_geometry(code, rows, k);
  EXPECT_EQ(g.padded_rows % 16, 0);
  EXPECT_EQ(g.padded_k % 64, 0);
  EXPECT_LT(g.padded_rows - rows, 16);
  EXPECT_LT(g.padded_k - k, 64);
  std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes), 0xff);
  std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes), 0xff);
  for (int64_t panel = 0; panel < g.n_panels; ++panel) {
    const PanelIntegers in = random_panel(g, random);
    pack_panel(g, in, codes, meta);
    const PanelIntegers out = unpack_panel(g, codes, meta);
    EXPECT_EQ(out.indices, in.indices);
    EXPECT_EQ(out.multipliers, in.multipliers);
    EXPECT_EQ(out.scales, in.scales);
  }
}

TEST_P(PackedMatrixCodes, UnpackReturnsWhatPackWasGivenAtOddSizes) {
  std::mt19937 random(7);
  for (const int64_t rows : {1, 15, 16, 17, 33})
    for (const int64_t k : {32, 64, 96, 192, 512, 576, 704, 2112}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << k);
      expect_round_trip(GetParam(), rows, k, random);
    }
}

INSTANTIATE_TEST_SUITE_P(All, PackedMatrixCodes, testing::ValuesIn(kPackedCodes),
                         [](const testing::TestParamInfo<Code>& info) {
                           return std::string(code_name(info.param));
                         });

// The figures of the table of codes (docs/format.md), exactly:
// bits + multiplier_bits / 32 + 16 / scale_k, with every number a dyadic fraction.
TEST(PackedMatrix, BitsPerWeightAreThosePromised) {
  for (const int64_t k : {512, 1024, 2560}) {
    EXPECT_EQ(bits_per_weight(Code::kW8, 16, k), 8.125);
    EXPECT_EQ(bits_per_weight(Code::kW6, 16, k), 6.125);
    EXPECT_EQ(bits_per_weight(Code::kW5, 16, k), 5.1875);
    EXPECT_EQ(bits_per_weight(Code::kW4, 16, k), 4.1875);
    EXPECT_EQ(bits_per_weight(Code::kW3, 16, k), 3.21875);
    EXPECT_EQ(bits_per_weight(Code::kW4x, 16, k), 4.5);
    EXPECT_EQ(bits_per_weight(Code::kW8x, 16, k), 8.5);
  }
  EXPECT_EQ(bits_per_weight(Code::kT3, 16, 512), 3.03125);
  EXPECT_EQ(bits_per_weight(Code::kT6, 16, 512), 6.03125);
  EXPECT_EQ(bits_per_weight(Code::kT4, 16, 256), 4.0625);
  EXPECT_EQ(bits_per_weight(Code::kW5, 16, 256), 5.21875);  // half a scale block
  EXPECT_EQ(bits_per_weight(Code::kW4, 16, 256), 4.21875);
  EXPECT_EQ(bits_per_weight(Code::kW3, 16, 256), 3.25);
  EXPECT_EQ(bits_per_weight(Code::kW4, 16, 64), 4.40625);
  EXPECT_EQ(bits_per_weight(Code::kW3, 16, 64), 3.4375);
  EXPECT_EQ(bits_per_weight(Code::kW8, 16, 64), 8.25);
}

TEST(PackedMatrix, FourBitLinesHoldNibblesEightLinesApart) {
  const PackedGeometry g = packed_geometry(Code::kW4, 16, 64);
  PanelIntegers panel(g);
  panel.indices.assign(panel.indices.size(), 0);
  panel.indices[3 * 64 + 5] = 0xb;       // row 3, k 5: line 1, byte 4 * 3 + 1
  panel.indices[3 * 64 + 5 + 32] = 0x6;  // k 37: line 9, the same byte
  std::vector<uint8_t> codes(512), meta(static_cast<size_t>(g.panel_meta_bytes));
  pack_panel(g, panel, codes, meta);
  EXPECT_EQ(codes[64 + 13], 0x6b);
  codes[64 + 13] = 0;
  EXPECT_EQ(codes, std::vector<uint8_t>(512));
}

TEST(PackedMatrix, ThreeBitIndicesAreATwoBitPlaneAndAOneBitPlane) {
  const PackedGeometry g = packed_geometry(Code::kW3, 16, 64);
  PanelIntegers panel(g);
  panel.indices.assign(panel.indices.size(), 0);
  panel.indices[15 * 64 + 62] = 6;  // row 15, k 62: line 15 = stored line 3, bits 6..7; byte 62
  std::vector<uint8_t> codes(384), meta(static_cast<size_t>(g.panel_meta_bytes));
  pack_panel(g, panel, codes, meta);
  EXPECT_EQ(codes[3 * 64 + 62], 2 << 6);
  EXPECT_EQ(codes[256 + 15 * 8 + 7], 1 << 6);  // bit 62 of word 15
}

TEST(PackedMatrix, EightBitBytesAreTheLevelItself) {
  const PackedGeometry g = packed_geometry(Code::kW8, 16, 64);
  PanelIntegers panel(g);
  panel.indices[2 * 64 + 7] = 125;  // level -3
  std::vector<uint8_t> codes(1024), meta(32);
  pack_panel(g, panel, codes, meta);
  EXPECT_EQ(static_cast<int8_t>(codes[64 + 11]), -3);
  EXPECT_EQ(codes[0], 0);  // padding is level 0
}

TEST(PackedMatrix, MetaIsScalesThenMagnitudesSignsAndFifthBits) {
  const PackedGeometry g = packed_geometry(Code::kW3, 16, 64);  // 1 scale block, 2 groups
  PanelIntegers panel(g);
  panel.scales[9] = 0x1234;            // row 9
  panel.multipliers[9 * 2 + 1] = -18;  // row 9, group 1: magnitude 0b10010, negative
  std::vector<uint8_t> codes(384), meta(static_cast<size_t>(g.panel_meta_bytes));
  ASSERT_EQ(meta.size(), 32u + 16 + 4 + 4);
  pack_panel(g, panel, codes, meta);
  EXPECT_EQ(meta[18], 0x34);
  EXPECT_EQ(meta[19], 0x12);
  EXPECT_EQ(meta[32 + 8 + 4], 2 << 4);  // group 1, rows 8 (low) and 9 (high)
  EXPECT_EQ(meta[48 + 3], 1 << 1);      // sign of row 9, group 1
  EXPECT_EQ(meta[52 + 3], 1 << 1);      // fifth bit
}

TEST(PackedMatrix, AnyBytesUnpackToWeightsThatFitInt8) {
  std::mt19937 random(11);
  for (const Code code : kPackedCodes) {
    const PackedGeometry g = packed_geometry(code, 16, 704);
    std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
    std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
    for (uint8_t& byte : codes) byte = static_cast<uint8_t>(random());
    for (uint8_t& byte : meta) byte = static_cast<uint8_t>(random() % 4 ? random() : 0xff);
    const PanelIntegers panel = unpack_panel(g, codes, meta);
    const std::vector<int8_t> weights = panel_weights(g, panel);
    for (size_t i = 0; i < panel.indices.size(); ++i) {
      ASSERT_LT(panel.indices[i], 1 << traits(code).bits);
      // Level -128 exists in the 8-bit codes; it still is an int8.
      ASSERT_TRUE(weights[i] > -128 || code == Code::kW8 || code == Code::kW8x);
      if (traits(code).is_trellis) continue;
      const int64_t row = static_cast<int64_t>(i) / g.padded_k;
      const int64_t group = static_cast<int64_t>(i) % g.padded_k / 32;
      const int multiplier = panel.multipliers.empty()
                                 ? 1
                                 : panel.multipliers[static_cast<size_t>(row * g.n_groups + group)];
      ASSERT_EQ(weights[i], levels(code)[panel.indices[i]] * multiplier);
    }
  }
}

TEST(PackedMatrix, RotationSignsAreBalanced) {
  // A pattern with far more of one sign would leave constant rows concentrated after the transform.
  const int negative = std::popcount(kRotationSigns);
  EXPECT_GE(negative, 24);
  EXPECT_LE(negative, 40);
}

}  // namespace
}  // namespace lapidary
