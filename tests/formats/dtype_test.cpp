// 16-bit floats: every pattern survives, and rounding is to nearest, ties to even.
#include "formats/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lapidary {
namespace {

TEST(Float16, EveryPatternSurvives) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = f16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value)))) << bits;
    else
      EXPECT_EQ(float_to_f16(value), bits) << value;
  }
}

TEST(BFloat16, EveryPatternSurvives) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = bf16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << bits;
    else
      EXPECT_EQ(float_to_bf16(value), bits) << value;
  }
}

TEST(Float16, AgreesWithTheHardwaresFormat) {
#ifdef __FLT16_MAX__
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = std::bit_cast<_Float16>(static_cast<uint16_t>(bits));
    const float expected = static_cast<float>(half);
    if (std::isnan(expected)) continue;
    EXPECT_EQ(f16_to_float(static_cast<uint16_t>(bits)), expected);
  }
  // Rounding, at and beside the middle between any two neighbours.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = f16_to_float(static_cast<uint16_t>(bits));
    const float middle = (low + f16_to_float(static_cast<uint16_t>(bits + 1))) / 2;
    for (const float value : {middle, std::nextafterf(middle, 0.0f),
                              std::nextafterf(middle, std::numeric_limits<float>::infinity())}) {
      const auto expected = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
      EXPECT_EQ(float_to_f16(value), expected) << value;
      EXPECT_EQ(float_to_f16(-value), expected | 0x8000u) << value;
    }
  }
#else
  GTEST_SKIP() << "the compiler has no _Float16";
#endif
}

TEST(Float16, BeyondTheLargestIsInfinity) {
  EXPECT_EQ(float_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);  // the middle rounds to even: up
  EXPECT_EQ(float_to_f16(-std::numeric_limits<float>::infinity()), 0xfc00);
}

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie, even below
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie, even above
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(DType, NamesReadBack) {
  for (const DType type : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                           DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool})
    EXPECT_EQ(parse_dtype(dtype_name(type)), type) << dtype_name(type);
  EXPECT_EQ(parse_dtype("f32"), std::nullopt);
  EXPECT_EQ(parse_dtype("F8_E4M3"), std::nullopt);
}

}  // namespace
}  // namespace lapidary
