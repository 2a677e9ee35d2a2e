// What kernels rely on in the table of codes.
#include "formats/code.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace lapidary {
namespace {

TEST(Codes, StandInTheTableAtTheirNumberAndReadBackByName) {
  for (int i = 0; i < kCodeCount; ++i) {
    const Code code = static_cast<Code>(i);
    EXPECT_EQ(traits(code).code, code);
    EXPECT_EQ(parse_code(code_name(code)), code);
  }
  EXPECT_EQ(parse_code("w2"), std::nullopt);
  EXPECT_EQ(parse_code(""), std::nullopt);
}

TEST(Codes, UnpackedWeightsAreExactInt8) {
  for (int i = 0; i < kCodeCount; ++i) {
    const CodeTraits& t = traits(static_cast<Code>(i));
    const std::span<const int8_t> table = levels(t.code);
    if (t.is_float || t.is_trellis) {
      EXPECT_TRUE(table.empty());
      continue;
    }
    ASSERT_EQ(table.size(), size_t{1} << t.bits) << t.name;
    EXPECT_TRUE(std::is_sorted(table.begin(), table.end())) << t.name;
    EXPECT_EQ(std::adjacent_find(table.begin(), table.end()), table.end()) << t.name;
    // One-level codes may use -128: it is an int8 and nothing multiplies it.
    if (t.multiplier_bits == 0) continue;
    for (const int8_t level : table)
      EXPECT_LE(std::abs(level) * t.max_multiplier, 127) << t.name << " level " << int{level};
    EXPECT_LT(t.max_multiplier, 1 << (t.multiplier_bits - 1)) << t.name;
  }
}

TEST(Codes, SpendTheBitsThatTheTableInTheDocumentsSays) {
  const auto bits_per_weight = [](Code code) {
    const CodeTraits& t = traits(code);
    return t.bits + t.multiplier_bits / double{kGroupK} + 16.0 / t.scale_k;
  };
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW8), 8.125);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW6), 6.125);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW5), 5.1875);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW4), 4.1875);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW3), 3.21875);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW4x), 4.5);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kW8x), 8.5);
  EXPECT_DOUBLE_EQ(bits_per_weight(Code::kT4), 4.03125);
}

TEST(Scales, ReadBackInBothTypes) {
  for (const ScaleType type : {ScaleType::kF16, ScaleType::kBF16}) {
    EXPECT_EQ(scale_to_float(type, float_to_scale(type, 0.15625f)), 0.15625f);
    EXPECT_EQ(scale_to_float(type, float_to_scale(type, -2.0f)), -2.0f);
  }
}

}  // namespace
}  // namespace lapidary
