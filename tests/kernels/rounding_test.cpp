// The rounding of one block: distortion in numeric windows, exact lattices, and hard values.
//
// A window's lower end guards against a test that measures nothing, the upper one against a search
// that got worse. They stand 3 % around what an exhaustive search over clips and scales reaches on
// the same numbers (which is at most 0.6 % below ours).
#include "kernels/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <random>

#include "formats/dtype.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

struct Rounded {
  std::vector<uint8_t> indices;
  std::vector<int8_t> multipliers;
  std::vector<float> values;
  uint16_t scale = 0;
};

Rounded round(Code code, const std::vector<float>& x, bool store_multipliers = true) {
  Rounded r;
  r.indices.resize(x.size());
  r.values.resize(x.size());
  if (traits(code).multiplier_bits > 0 && store_multipliers)
    r.multipliers.resize((x.size() + kGroupK - 1) / kGroupK);
  RoundedBlock block{r.indices, r.multipliers, r.values};
  round_block(code, x, &block);
  r.scale = block.scale;
  return r;
}

double squared_error(const std::vector<float>& x, const Rounded& r) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += std::pow(double{x[i]} - r.values[i], 2);
  return total;
}

// ||x - x'||^2 / ||x||^2 over many blocks; std::mt19937 and our own normals, the same everywhere.
double distortion(Code code, bool heavy_tail) {
  std::mt19937 random(1);
  const auto uniform = [&] { return (random() + 0.5) / 4294967296.0; };
  const auto normal = [&] {
    return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform());
  };
  double error = 0, energy = 0;
  for (int block = 0; block < 512; ++block) {
    std::vector<float> x(static_cast<size_t>(traits(code).scale_k));
    for (float& value : x) {
      double v = normal();
      // Student's t with 5 degrees of freedom, the tail of trained weights.
      if (heavy_tail) {
        double chi = 0;
        for (int i = 0; i < 5; ++i) chi += std::pow(normal(), 2);
        v /= std::sqrt(chi / 5);
      }
      value = static_cast<float>(0.02 * v);
      energy += double{value} * value;
    }
    error += squared_error(x, round(code, x));
  }
  return error / energy;
}

struct Window {
  Code code;
  double gauss, heavy;  // expected distortion
};
// As bytes, the padding would be printed too.
void PrintTo(const Window& w, std::ostream* out) { *out << code_name(w.code); }
class Distortion : public testing::TestWithParam<Window> {};

TEST_P(Distortion, LiesInItsWindow) {
  const Window& w = GetParam();
  const double gauss = distortion(w.code, false), heavy = distortion(w.code, true);
  EXPECT_GT(gauss, 0.95 * w.gauss) << code_name(w.code);
  EXPECT_LT(gauss, 1.05 * w.gauss) << code_name(w.code);
  EXPECT_GT(heavy, 0.88 * w.heavy) << code_name(w.code);
  EXPECT_LT(heavy, 1.12 * w.heavy) << code_name(w.code);
}

INSTANTIATE_TEST_SUITE_P(
    Codes, Distortion,
    testing::Values(Window{Code::kW8, 3.8e-5, 8.6e-5}, Window{Code::kW6, 6.17e-4, 1.375e-3},
                    Window{Code::kW5, 1.95e-3, 3.24e-3}, Window{Code::kW4, 6.87e-3, 1.11e-2},
                    Window{Code::kW3, 2.96e-2, 4.41e-2}, Window{Code::kW4x, 6.56e-3, 1.06e-2},
                    Window{Code::kW8x, 2.3e-5, 3.8e-5}),
    [](const auto& info) { return std::string(code_name(info.param.code)); });

constexpr Code kPackedCodes[] = {Code::kW8, Code::kW6,  Code::kW5, Code::kW4,
                                 Code::kW3, Code::kW4x, Code::kW8x};

TEST(Rounding, ReportedValuesAreWhatTheIntegersSay) {
  std::mt19937 random(2);
  for (const Code code : kPackedCodes) {
    for (const int n : {traits(code).scale_k, 32, 31, 5, 1}) {
      std::vector<float> x(static_cast<size_t>(n));
      for (float& value : x) value = static_cast<float>(static_cast<int>(random() % 2001) - 1000);
      const Rounded r = round(code, x);
      for (int i = 0; i < n; ++i) {
        const int m = r.multipliers.empty() ? 1 : r.multipliers[i / kGroupK];
        ASSERT_LE(std::abs(m), std::max(1, traits(code).max_multiplier));
        ASSERT_LT(r.indices[i], 1 << traits(code).bits);
        EXPECT_EQ(r.values[i],
                  f16_to_float(r.scale) * static_cast<float>(m * levels(code)[r.indices[i]]));
      }
    }
  }
}

TEST(Rounding, CodesWithAScalePer32KeepEveryLatticeExactly) {
  std::mt19937 random(3);
  for (const Code code : {Code::kW4x, Code::kW8x}) {
    const int low = levels(code).front(), high = levels(code).back();
    for (int trial = 0; trial < 300; ++trial) {
      // A lattice of any width, as QAT with clipped or small groups leaves it; any fp16 step.
      const int widest = 1 + static_cast<int>(random() % static_cast<unsigned>(-low));
      const float step =
          f16_to_float(static_cast<uint16_t>(0x1000 + random() % 0x2000)) * (trial % 2 ? 1 : -1);
      std::vector<float> x(32);
      for (float& value : x) {
        const int level = static_cast<int>(random() % (2 * widest + 1)) - widest;
        value = step * static_cast<float>(std::clamp(level, low, high));
      }
      EXPECT_EQ(squared_error(x, round(code, x)), 0.0) << code_name(code) << " trial " << trial;
    }
  }
}

TEST(Rounding, ZerosStayZero) {
  for (const Code code : kPackedCodes) {
    const std::vector<float> zeros(static_cast<size_t>(traits(code).scale_k));
    EXPECT_EQ(squared_error(zeros, round(code, zeros)), 0.0) << code_name(code);
  }
}

TEST(Rounding, AZeroGroupBesideALargeOneStaysZero) {
  for (const Code code : {Code::kW5, Code::kW4, Code::kW3}) {
    std::vector<float> x(64);
    for (int i = 0; i < 32; ++i) x[i] = static_cast<float>(i - 16);
    const Rounded r = round(code, x);
    for (int i = 32; i < 64; ++i) EXPECT_EQ(r.values[i], 0.0f) << code_name(code);
  }
}

TEST(Rounding, GroupsOfVeryDifferentSizeKeepTheSmallOnes) {
  // One group a hundred times the other: the multiplier's range allows 15, so the small group may
  // vanish, but must never be made larger than it is.
  for (const Code code : {Code::kW5, Code::kW4, Code::kW3}) {
    std::vector<float> x(64, 0.01f);
    for (int i = 0; i < 32; ++i) x[i] = 1.0f;
    const Rounded r = round(code, x);
    for (int i = 32; i < 64; ++i) EXPECT_LE(std::fabs(r.values[i] - 0.01f), 0.011f);
  }
}

TEST(Rounding, TinyAndHugeValuesStayFiniteAndNoWorseThanZero) {
  std::mt19937 random(4);
  for (const Code code : kPackedCodes) {
    for (const float size : {1e-38f, 1e-12f, 1e-7f, 1e-5f, 1e-3f, 1e3f, 1e5f}) {
      std::vector<float> x(static_cast<size_t>(traits(code).scale_k));
      double energy = 0;
      for (float& value : x) {
        value = size * (static_cast<float>(random() % 2001) / 1000.0f - 1.0f);
        energy += double{value} * value;
      }
      const double error = squared_error(x, round(code, x));
      EXPECT_TRUE(std::isfinite(error));
      EXPECT_LE(error, energy * (1 + 1e-6)) << code_name(code) << " " << size;
      // fp16 scales are good for weights from 1e-3 on: at most twice the usual distortion.
      if (size >= 1e-3f) {
        EXPECT_LT(error, 0.06 * energy) << code_name(code) << " " << size;
      }
    }
  }
}

TEST(Rounding, TheLargestWeightStillFits) {
  for (const Code code : kPackedCodes) {
    const std::vector<float> x(32, largest_weight(code));
    const Rounded r = round(code, x);
    EXPECT_TRUE(std::isfinite(f16_to_float(r.scale)));
    // One value for all: only the scale's 11 bits are left as error.
    EXPECT_NEAR(r.values[7] / x[7], 1.0, 1e-3) << code_name(code);
  }
}

TEST(Rounding, OneGroupWithoutMultipliersIsAScaleAlone) {
  // As per-layer embeddings of width 16 and 32 are stored.
  std::mt19937 random(5);
  for (const Code code : {Code::kW5, Code::kW4, Code::kW3}) {
    std::vector<float> x(16);
    for (float& value : x) value = static_cast<float>(static_cast<int>(random() % 201) - 100);
    const Rounded r = round(code, x, /*store_multipliers=*/false);
    for (int i = 0; i < 16; ++i)
      EXPECT_EQ(r.values[i], f16_to_float(r.scale) * levels(code)[r.indices[i]]);
  }
}

}  // namespace
}  // namespace lapidary
