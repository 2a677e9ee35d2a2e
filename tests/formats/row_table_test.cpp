// Row tables: records round-trip, lie as the header says, and take no more than their bits.
#include <gtest/gtest.h>

#include <random>

#include "formats/dtype.h"
#include "formats/packed_matrix.h"

namespace lapidary {
namespace {

constexpr Code kPackedCodes[] = {Code::kW8, Code::kW6,  Code::kW5, Code::kW4,
                                 Code::kW3, Code::kW4x, Code::kW8x};

RecordIntegers random_record(const RowTableGeometry& g, std::mt19937& random) {
  const CodeTraits& t = traits(g.code);
  RecordIntegers record;
  for (int64_t i = 0; i < g.width; ++i)
    record.indices.push_back(static_cast<uint8_t>(random() % (1u << t.bits)));
  const bool stored = g.n_groups > 1 && t.multiplier_bits > 0;
  for (int64_t i = 0; i < g.n_groups; ++i)
    record.multipliers.push_back(static_cast<int8_t>(
        stored ? static_cast<int>(random() % (2 * t.max_multiplier + 1)) - t.max_multiplier : 1));
  for (int64_t i = 0; i < g.n_scales; ++i)
    record.scales.push_back(float_to_f16(0.001f * static_cast<float>(random() % 1000)));
  return record;
}

TEST(RowTable, RecordsDequantizeToScaleTimesMultiplierTimesLevel) {
  std::mt19937 random(3);
  for (const Code code : kPackedCodes)
    for (const int64_t width : {1, 7, 16, 31, 32, 33, 40, 64, 96, 256, 600}) {
      const RowTableGeometry g = row_table_geometry(code, 4, 3, width);
      const RecordIntegers in = random_record(g, random);
      std::vector<uint8_t> bytes(static_cast<size_t>(g.record_bytes));
      pack_record(g, in, bytes);
      std::vector<float> out(static_cast<size_t>(width));
      unpack_record(g, ScaleType::kF16, bytes, out);
      for (int64_t i = 0; i < width; ++i) {
        const size_t u = static_cast<size_t>(i);
        const int integer = levels(code)[in.indices[u]] * in.multipliers[u / 32];
        const float scale = f16_to_float(in.scales[u / static_cast<size_t>(traits(code).scale_k)]);
        // Exact: 8 bits times the 11 bits of an fp16 mantissa fit a float.
        ASSERT_EQ(out[u], scale * static_cast<float>(integer)) << code_name(code) << " " << width;
      }
    }
}

TEST(RowTable, RecordSizesFollowTheBits) {
  EXPECT_EQ(row_table_geometry(Code::kW4, 10, 2, 256).record_bytes, 2 + 5 + 128);
  EXPECT_EQ(row_table_geometry(Code::kW3, 10, 2, 256).record_bytes, 2 + 6 + 96);
  EXPECT_EQ(row_table_geometry(Code::kW8, 10, 2, 256).record_bytes, 4 + 256);
  EXPECT_EQ(row_table_geometry(Code::kW4, 10, 2, 32).record_bytes,
            2 + 16);  // one group: no multiplier
  EXPECT_EQ(row_table_geometry(Code::kW3, 10, 2, 16).record_bytes, 2 + 6);
  EXPECT_EQ(row_table_geometry(Code::kW4x, 10, 2, 64).record_bytes, 4 + 32);
  EXPECT_EQ(row_table_geometry(Code::kBF16, 10, 2, 16).record_bytes, 32);
  const RowTableGeometry g = row_table_geometry(Code::kW5, 10, 3, 33);
  EXPECT_EQ(g.record_bytes, 2 + 2 + 21);  // 10 bits of multipliers, 165 bits of indices
  EXPECT_EQ(g.row_bytes, 3 * g.record_bytes);
  EXPECT_EQ(g.bytes, 10 * g.row_bytes);
}

TEST(RowTable, BitStringsFillBytesFromBitZero) {
  const RowTableGeometry g = row_table_geometry(Code::kW5, 1, 1, 64);
  RecordIntegers record{std::vector<uint8_t>(64), {-3, 7}, {0x3c00}};
  record.indices[0] = 0b10110;
  record.indices[1] = 0b01001;
  std::vector<uint8_t> bytes(static_cast<size_t>(g.record_bytes));
  pack_record(g, record, bytes);
  EXPECT_EQ(bytes[0], 0x00);
  EXPECT_EQ(bytes[1], 0x3c);
  // -3 = sign 1, magnitude 0011 -> 10011; 7 -> 00111 above it.
  EXPECT_EQ(bytes[2] | bytes[3] << 8, 0b00111'10011);
  EXPECT_EQ(bytes[4], 0b001'10110);
  EXPECT_EQ(bytes[5], 0b01);
}

TEST(RowTable, AnyBytesAreValidInput) {
  std::mt19937 random(5);
  for (const Code code : kPackedCodes) {
    const RowTableGeometry g = row_table_geometry(code, 1, 1, 70);
    std::vector<uint8_t> bytes(static_cast<size_t>(g.record_bytes));
    std::vector<float> out(70);
    for (int round = 0; round < 100; ++round) {
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
      bytes[0] = 0;
      bytes[1] = 0x3c;  // first scale 1.0, so that the bound below can be seen
      unpack_record(g, ScaleType::kF16, bytes, out);
      for (int i = 0; i < 32; ++i) ASSERT_LE(std::abs(out[static_cast<size_t>(i)]), 128.0f);
    }
  }
}

TEST(RowTable, FloatRecordsAreReadAsTheyLie) {
  const RowTableGeometry g = row_table_geometry(Code::kBF16, 1, 1, 2);
  const std::vector<uint8_t> bytes{0x80, 0x3f, 0x00, 0xc0};
  std::vector<float> out(2);
  unpack_record(g, ScaleType::kF16, bytes, out);
  EXPECT_EQ(out, (std::vector<float>{1.0f, -2.0f}));
}

}  // namespace
}  // namespace lapidary
