// The search for scales of groups: the same bits in every table, whatever the values and their
// layout, and exact where values are a lattice.
#include "kernels/group_fit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "formats/ggml_blocks.h"
#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

struct Fits {
  std::vector<uint32_t> bits;  // of all scales and minima: -0 is not 0
};

void append(const std::vector<float>& values, Fits* fits) {
  for (const float v : values) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof(bits));
    fits->bits.push_back(std::isnan(v) ? ~0u : bits);
  }
}

// Every search that a format asks for.
Fits fit_all(const KernelTable& table, const ValueGroups& groups) {
  Fits fits;
  std::vector<float> scales(static_cast<size_t>(groups.n_groups)), minima(scales.size());
  const int bounds[][2] = {{-4, 3}, {-8, 7}, {-16, 15}, {-32, 31}, {-128, 127}, {-127, 127}};
  for (const auto& [low, high] : bounds) {
    table.fit_symmetric(groups, low, high, scales.data());
    append(scales, &fits);
  }
  for (const int high : {15, 31, 255}) {
    table.fit_affine(groups, high, scales.data(), minima.data());
    append(scales, &fits);
    append(minima, &fits);
  }
  table.fit_iq4(groups, scales.data());
  append(scales, &fits);
  return fits;
}

// Groups of kinds that take turns.
std::vector<float> difficult_groups(int n, int64_t n_groups) {
  const size_t size = static_cast<size_t>(n);
  std::vector<float> all;
  for (int64_t g = 0; g < n_groups; ++g) {
    std::vector<float> x = random_floats(size, static_cast<uint32_t>(g + 1), 0.02f);
    switch (g % 17) {
      case 1:
        x.assign(size, 0.0f);
        break;
      case 2:
        x.assign(size, 0.37f);
        break;
      case 3:
        x.assign(size, -0.37f);
        break;
      case 4:  // one outlier
        x[size / 3] = -5.0f;
        break;
      case 5:
        for (float& v : x) v = -std::fabs(v);
        break;
      case 6:
        for (float& v : x) v = std::fabs(v) + 1.0f;
        break;
      case 7:  // denormal
        for (float& v : x) v *= 1e-38f;
        break;
      case 8:  // so small that some ranges cannot be divided by
        for (float& v : x) v *= 2e-36f;
        break;
      case 9:  // sums of products overflow
        for (float& v : x) v *= 3e38f;
        break;
      case 10:  // ranges overflow
        x[0] = 3.4e38f;
        x[1] = -3.4e38f;
        break;
      case 11:  // products below the smallest normal number
        for (float& v : x) v *= 1e-30f;
        x[2] = 1e-3f;
        break;
      case 12:
        x.assign(size, 0.0f);
        x[size - 1] = 1.0f;
        break;
      case 13:  // ties between integers, and of signs
        for (size_t i = 0; i < size; ++i)
          x[i] = 0.5f * static_cast<float>(static_cast<int>(i) % 31 - 15);
        break;
      case 14:
        for (size_t i = 0; i < size; ++i) x[i] = i % 2 ? -0.0f : 0.0f;
        break;
      case 15:
        for (float& v : x) v = -std::fabs(v) - 2.0f;
        x[4] = -0.0f;
        break;
      case 16:  // all integers that a level of IQ4_NL can be nearest to
        for (size_t i = 0; i < size; ++i)
          x[i] = static_cast<float>((static_cast<int>(i) * 7 + static_cast<int>(g)) % 256 - 128);
        x[0] = -127;
        break;
      default:
        break;
    }
    all.insert(all.end(), x.begin(), x.end());
  }
  return all;
}

TEST(GroupFit, EveryTableFindsTheSameBitsInEitherLayout) {
  for (const int n : {8, 16, 24, 32, 64, 128, 256})
    for (const int64_t n_groups : {1, 7, 8, 16, 85}) {
      const std::vector<float> x = difficult_groups(n, n_groups);
      std::vector<float> columns(x.size());
      for (int64_t g = 0; g < n_groups; ++g)
        for (int i = 0; i < n; ++i)
          columns[static_cast<size_t>(i * n_groups + g)] = x[static_cast<size_t>(g * n + i)];
      std::vector<float> scratch(static_cast<size_t>(fit_scratch_floats(n)));
      const ValueGroups rows{x.data(), n, 1, n, n_groups, scratch.data()};
      const ValueGroups side_by_side{columns.data(), 1, n_groups, n, n_groups, scratch.data()};
      const Fits expected = fit_all(*available_kernels()[0], rows);
      for (const KernelTable* table : available_kernels()) {
        EXPECT_EQ(fit_all(*table, rows).bits, expected.bits) << table->name << " " << n;
        EXPECT_EQ(fit_all(*table, side_by_side).bits, expected.bits) << table->name << " " << n;
      }
    }
}

// Vectors look levels up by steps between integers: all 256, and what lies between and beyond.
TEST(GroupFit, EveryIntegerFindsItsNearestLevel) {
  std::vector<float> scratch(static_cast<size_t>(fit_scratch_floats(8)));
  std::vector<float> x;
  for (int quarter = -127 * 4; quarter <= 127 * 4; ++quarter) {
    const float value = static_cast<float>(quarter) / 4;
    x.insert(x.end(), {-127, value, 0, 0, 0, 0, 0, 0});
  }
  const int64_t n_groups = static_cast<int64_t>(x.size() / 8);
  const ValueGroups groups{x.data(), 8, 1, 8, n_groups, scratch.data()};
  std::vector<float> expected(x.size() / 8), scales(x.size() / 8);
  available_kernels()[0]->fit_iq4(groups, expected.data());
  for (const KernelTable* table : available_kernels()) {
    table->fit_iq4(groups, scales.data());
    EXPECT_EQ(scales, expected) << table->name;
  }
}

// Levels times a power of two: every product and sum is exact, so no other scale can be better.
TEST(GroupFit, ScalesOfLatticesAreFoundExactly) {
  constexpr float kScale = 0.03125f;
  std::vector<float> scratch(static_cast<size_t>(fit_scratch_floats(32)));
  std::vector<float> integers(32), levels(32);
  for (size_t i = 0; i < 32; ++i) {
    integers[i] = kScale * static_cast<float>(static_cast<int>(i % 16) - 8);
    levels[i] = kScale * kIq4Levels[i % 16];
  }
  for (const KernelTable* table : available_kernels()) {
    float scale = 0, minimum = 0;
    table->fit_symmetric({integers.data(), 32, 1, 32, 1, scratch.data()}, -8, 7, &scale);
    EXPECT_EQ(scale, kScale) << table->name;
    table->fit_affine({integers.data(), 32, 1, 32, 1, scratch.data()}, 15, &scale, &minimum);
    EXPECT_EQ(scale, kScale) << table->name;
    EXPECT_EQ(minimum, 8 * kScale) << table->name;
    table->fit_iq4({levels.data(), 32, 1, 32, 1, scratch.data()}, &scale);
    EXPECT_EQ(scale, kScale) << table->name;
  }
}

}  // namespace
}  // namespace lapidary
