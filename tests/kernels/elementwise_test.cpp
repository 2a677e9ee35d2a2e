// Norms, rotary embedding, activations and bf16 rounding against double-precision formulas.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "formats/dtype.h"
#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kEps = 0x1p-24;  // half a unit in the last place, relative
constexpr size_t kLengths[] = {1, 7, 8, 9, 33, 192, 1000};

class Elementwise : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }

  using Mul = void (*)(const float*, const float*, int64_t, float*) noexcept;
  // The largest error of a gated activation with up = 1, relative to |gate|.
  static double worst_error(Mul f, double (*expected)(double), float from, float to) {
    constexpr int kSteps = 200001;
    std::vector<float> gate(kSteps), up(kSteps, 1.0f), out(kSteps);
    for (int i = 0; i < kSteps; ++i)
      gate[size_t(i)] = from + (to - from) * float(i) / float(kSteps - 1);
    f(gate.data(), up.data(), kSteps, out.data());
    double worst = 0;
    for (size_t i = 0; i < gate.size(); ++i) {
      if (gate[i] == 0) continue;
      worst = std::fmax(worst, std::fabs(out[i] - expected(gate[i])) / std::fabs(gate[i]));
    }
    return worst;
  }
};

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double silu(double x) { return x / (1 + std::exp(-x)); }

TEST_P(Elementwise, RmsNormIsTheFormula) {
  for (const size_t width : kLengths)
    for (const float offset : {0.0f, 1.0f}) {
      const std::vector<float> x = random_floats(3 * width, 1, 2.0f), w = random_floats(width, 2);
      for (const float* weight : {w.data(), static_cast<const float*>(nullptr)}) {
        std::vector<float> out(3 * width), in_place = x;
        table().rms_norm(x.data(), weight, offset, 1e-6f, 3, int64_t(width), out.data());
        table().rms_norm(in_place.data(), weight, offset, 1e-6f, 3, int64_t(width),
                         in_place.data());
        EXPECT_EQ(out, in_place);
        for (size_t t = 0; t < 3; ++t) {
          double sum = 0;
          for (size_t i = 0; i < width; ++i) sum += double{x[t * width + i]} * x[t * width + i];
          const double inverse = 1 / std::sqrt(sum / double(width) + 1e-6);
          for (size_t i = 0; i < width; ++i) {
            const double factor = weight ? double{weight[i]} + offset : 1;
            const double expected = x[t * width + i] * inverse * factor;
            // Squares are positive, so 8 lanes err by at most width / 8 + 4 roundings, halved by
            // the root; the rest is a handful of roundings, one of them of w + offset, which may
            // cancel.
            const double bound = (double(width) / 16 + 8) * kEps * std::fabs(expected) +
                                 2 * kEps * std::fabs(x[t * width + i] * inverse);
            ASSERT_NEAR(out[t * width + i], expected, bound);
          }
        }
      }
    }
}

TEST_P(Elementwise, RmsNormOfARowDoesNotDependOnItsNeighbours) {
  const std::vector<float> x = random_floats(5 * 37, 3), w = random_floats(37, 4);
  std::vector<float> batch(x.size()), alone(x.size());
  table().rms_norm(x.data(), w.data(), 0, 1e-6f, 5, 37, batch.data());
  for (size_t t = 0; t < 5; ++t)
    table().rms_norm(x.data() + 37 * t, w.data(), 0, 1e-6f, 1, 37, alone.data() + 37 * t);
  EXPECT_EQ(batch, alone);
}

TEST_P(Elementwise, RmsNormOfZerosIsZero) {
  const std::vector<float> x(64, 0.0f), w(64, 3.0f);
  std::vector<float> out(64, 1.0f);
  table().rms_norm(x.data(), w.data(), 0, 1e-6f, 1, 64, out.data());
  EXPECT_EQ(out, x);
}

TEST_P(Elementwise, RopeGivesTheReferencesBits) {
  for (const int head_dim : {2, 6, 16, 64, 100, 256}) {
    const size_t half = size_t(head_dim) / 2;
    std::vector<float> cos(half), sin(half);
    for (size_t i = 0; i < half; ++i) {
      cos[i] = std::cos(0.37f * float(i + 1));
      sin[i] = std::sin(0.37f * float(i + 1));
    }
    std::vector<float> x = random_floats(3 * size_t(head_dim), 5), expected = x;
    table().rope(x.data(), cos.data(), sin.data(), 3, head_dim);
    for (size_t head = 0; head < 3; ++head)
      for (size_t i = 0; i < half; ++i) {
        float* p = expected.data() + head * size_t(head_dim);
        const float low = p[i], high = p[i + half];
        p[i] = low * cos[i] - high * sin[i];
        p[i + half] = high * cos[i] + low * sin[i];
      }
    EXPECT_EQ(x, expected);
  }
}

// sigmoid = 1 / (1 + e^-z) loses a few roundings to exp's argument: |z| eps each where e^-z
// matters, and that factor is bounded by z * sigmoid * (1 - sigmoid) < 0.28. GELU's cubic
// multiplies the argument's error by up to 3. A dozen half units cover both with room for exp's own
// error.
TEST_P(Elementwise, GeluIsAccurateOverTheWholeRange) {
  EXPECT_LT(worst_error(table().gelu_mul, gelu, -12, 12), 12 * kEps);
  EXPECT_LT(worst_error(table().gelu_mul, gelu, -0.01f, 0.01f), 12 * kEps);
}
TEST_P(Elementwise, SiluIsAccurateOverTheWholeRange) {
  EXPECT_LT(worst_error(table().silu_mul, silu, -100, 100), 12 * kEps);
  EXPECT_LT(worst_error(table().silu_mul, silu, -2, 2), 12 * kEps);
}

TEST_P(Elementwise, ActivationsNeitherOverflowNorLeaveTheRange) {
  const std::vector<float> gate{-1e30f, -1000.0f, -100.0f, -20.0f, 20.0f, 100.0f, 1000.0f, 1e30f};
  const std::vector<float> up(8, 1.0f);
  for (const auto f : {table().gelu_mul, table().silu_mul}) {
    std::vector<float> out(8);
    f(gate.data(), up.data(), 8, out.data());
    for (size_t i = 0; i < 8; ++i) {
      if (gate[i] > 0) {
        EXPECT_FLOAT_EQ(out[i], gate[i]);
      } else {
        EXPECT_LE(out[i], 0.0f);
        EXPECT_GT(out[i], -1e-6f);  // silu(-20) = -4.1e-8
      }
    }
  }
}

TEST_P(Elementwise, ActivationsMultiplyByUpAtAnyLengthAndInPlace) {
  for (const size_t n : kLengths) {
    const std::vector<float> gate = random_floats(n, 6), up = random_floats(n, 7);
    const std::vector<float> ones(n, 1.0f);
    for (const auto f : {table().gelu_mul, table().silu_mul}) {
      std::vector<float> out(n), plain(n), in_place = gate;
      f(gate.data(), up.data(), int64_t(n), out.data());
      f(gate.data(), ones.data(), int64_t(n), plain.data());
      f(in_place.data(), up.data(), int64_t(n), in_place.data());
      EXPECT_EQ(out, in_place);
      for (size_t i = 0; i < n; ++i) {
        EXPECT_EQ(out[i], plain[i] * up[i]);
        float alone;  // the same value at another place in a vector
        f(&gate[i], &up[i], 1, &alone);
        EXPECT_EQ(alone, out[i]);
      }
    }
  }
}

TEST_P(Elementwise, AddRoundsTheSumThenTheProduct) {
  for (const size_t n : {1, 7, 8, 16, 37, 192}) {
    const std::vector<float> before = random_floats(n, 11), y = random_floats(n, 12);
    for (const float factor : {1.0f, 0.3f}) {
      std::vector<float> x = before;
      table().add(x.data(), y.data(), factor, int64_t(n));
      for (size_t i = 0; i < n; ++i) {
        const float sum = before[i] + y[i];
        EXPECT_EQ(x[i], sum * factor);
      }
    }
  }
}

TEST_P(Elementwise, SoftcapIsAccurateNearZeroAndSaturates) {
  std::vector<float> x;
  for (float v = 1e-6f; v < 1e6f; v *= 1.003f) {
    x.push_back(v);
    x.push_back(-v);
  }
  std::vector<float> out = x;
  table().softcap(out.data(), int64_t(out.size()), 30.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = 30 * std::tanh(double{x[i]} / 30);
    // Quotient, exp, two sums, quotient, product: relative, because tanh goes through e^x - 1.
    ASSERT_NEAR(out[i], expected, 10 * kEps * std::fabs(expected)) << x[i];
    ASSERT_LE(std::fabs(out[i]), 30.0f);
  }
}

TEST_P(Elementwise, SoftcapKeepsNan) {
  std::vector<float> x(9, std::numeric_limits<float>::quiet_NaN());
  table().softcap(x.data(), 9, 30.0f);
  for (const float value : x) EXPECT_TRUE(std::isnan(value));
}

TEST_P(Elementwise, Bf16RoundsLikeFormats) {
  std::vector<float> x = random_floats(1000, 8, 100.0f);
  for (const float special :
       {0.0f, -0.0f, 1.0f + 0x1p-8f, 1.0f + 0x3p-8f, kInfinity, -kInfinity, 3.4e38f, 0x1p-140f,
        std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffc12345u)})
    x.push_back(special);
  for (const size_t n : {x.size(), size_t{1}, size_t{7}, size_t{8}, size_t{15}}) {
    const std::vector<float> last(x.end() - std::ptrdiff_t(n), x.end());
    std::vector<uint16_t> out(n + 1, 0xabcd);
    table().float_to_bf16(last.data(), int64_t(n), out.data());
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(out[i], float_to_bf16(last[i])) << last[i];
    EXPECT_EQ(out[n], 0xabcd);
  }
}

INSTANTIATE_TEST_SUITE_P(AllTables, Elementwise, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
