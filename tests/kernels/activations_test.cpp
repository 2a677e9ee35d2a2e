// Rotation and int8 quantization of activations: bit-equal on every instruction set.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class Activations : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
  static const KernelTable& reference() { return *available_kernels().front(); }

  struct Quantized {
    std::vector<int8_t> q;
    std::vector<float> scales;
    std::vector<int32_t> sums;
  };
  static Quantized quantize(const KernelTable& table, const std::vector<float>& x, int64_t n_tokens,
                            int64_t scale_k = 512) {
    const int64_t width = static_cast<int64_t>(x.size()) / n_tokens;
    Quantized out{std::vector<int8_t>(x.size(), 99),
                  std::vector<float>(size_t(n_tokens * ((width + scale_k - 1) / scale_k)), -1.0f),
                  std::vector<int32_t>(x.size() / kGroupK, -1)};
    table.quantize(x.data(), n_tokens, width, scale_k, out.q.data(), out.scales.data(),
                   out.sums.data());
    return out;
  }
};

TEST_P(Activations, RotationIsTheSignedHadamardMatrix) {
  const std::vector<float> x = random_floats(2 * 128, 1);
  std::vector<float> rotated = x;
  table().rotate(rotated.data(), 2, 128);
  for (size_t block = 0; block < x.size(); block += 64)
    for (size_t i = 0; i < 64; ++i) {
      double sum = 0;
      for (size_t j = 0; j < 64; ++j) {
        const double sign = kRotationSigns >> j & 1 ? -1 : 1;
        sum += x[block + j] * sign * (std::popcount(i & j) % 2 ? -1 : 1);
      }
      // Six roundings of values up to about 3 * 8: well below 6 * 24 * 2^-24 / 8.
      EXPECT_NEAR(rotated[block + i], sum / 8, 2e-6);
    }
}

TEST_P(Activations, RotationGivesTheReferencesBits) {
  for (const int64_t width : {64, 192, 704}) {
    // One float past the allocation's start: nothing may rely on alignment.
    std::vector<float> x = random_floats(size_t(3 * width + 1), 2), expected = x;
    table().rotate(x.data() + 1, 3, width);
    reference().rotate(expected.data() + 1, 3, width);
    EXPECT_EQ(x, expected);
  }
}

TEST_P(Activations, QuantizationGivesTheReferencesBits) {
  for (const int64_t scale_k : {32, 128, 512})
    for (const int64_t width : {64, 192, 512, 576, 704, 2112}) {
      const std::vector<float> x = random_floats(size_t(3 * width), 3);
      const Quantized got = quantize(table(), x, 3, scale_k),
                      expected = quantize(reference(), x, 3, scale_k);
      EXPECT_EQ(got.q, expected.q);
      EXPECT_EQ(got.scales, expected.scales);
      for (size_t i = 0; i < got.sums.size(); ++i) {
        const auto group = got.q.begin() + std::ptrdiff_t(i * kGroupK);
        EXPECT_EQ(got.sums[i], std::accumulate(group, group + kGroupK, 0));
      }
    }
}

TEST_P(Activations, QuantizationRoundsHalvesToEvenAndReachesBothEnds) {
  std::vector<float> x(64, 0.0f);
  x[0] = 127.0f;  // scale 1
  x[1] = -127.0f;
  x[2] = 0.5f;
  x[3] = 1.5f;
  x[4] = -2.5f;
  x[5] = 2.5000002f;
  const Quantized got = quantize(table(), x, 1);
  EXPECT_EQ(got.scales[0], 1.0f);
  const std::vector<int8_t> expected{127, -127, 0, 2, -2, 3};
  EXPECT_EQ(std::vector<int8_t>(got.q.begin(), got.q.begin() + 6), expected);
}

TEST_P(Activations, AZeroBlockHasScaleZero) {
  std::vector<float> x(1024, 0.0f);
  x[600] = -3.0f;
  const Quantized got = quantize(table(), x, 1);
  EXPECT_EQ(got.scales[0], 0.0f);
  EXPECT_EQ(got.scales[1], 3.0f / 127.0f);
  for (size_t i = 0; i < 1024; ++i) EXPECT_EQ(got.q[i], i == 600 ? -127 : 0);
}

TEST_P(Activations, SubnormalsNeverLeaveTheRange) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const float multiple : {1.0f, 60.0f, 64.0f, 180.0f, 190.0f, 1000.0f}) {
    std::vector<float> x(64, multiple * tiny);
    x[1] = -x[0];
    const Quantized got = quantize(table(), x, 1), expected = quantize(reference(), x, 1);
    EXPECT_EQ(got.q, expected.q);
    EXPECT_EQ(got.scales, expected.scales);
    for (const int8_t q : got.q) EXPECT_GE(q, -127);
  }
}

TEST_P(Activations, InfinityAndNanShowInTheScaleOnly) {
  for (const size_t place : {size_t{0}, size_t{5}, size_t{63}, size_t{100}}) {
    std::vector<float> x = random_floats(128, 4);
    x[place] = -kInfinity;
    Quantized got = quantize(table(), x, 1);
    EXPECT_EQ(got.scales[0], kInfinity);
    EXPECT_EQ(got.q, std::vector<int8_t>(128, 0));
    x[place / 2] = kNan;
    got = quantize(table(), x, 1);
    EXPECT_TRUE(std::isnan(got.scales[0]));
    EXPECT_EQ(got.q, std::vector<int8_t>(128, 0));
  }
}

INSTANTIATE_TEST_SUITE_P(AllTables, Activations, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
