// Every table rounds 16 rows to the same integers and the same errors as the rule for one row, bit
// by bit: all codes, odd lengths, and rows that need different numbers of steps.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

constexpr Code kPackedCodes[] = {Code::kW8, Code::kW6,  Code::kW5, Code::kW4,
                                 Code::kW3, Code::kW4x, Code::kW8x};
constexpr int64_t kStride = kMostBlockK + 3;  // rows are not aligned

// Sixteen rows that differ in kind: what one lane does must not depend on its neighbours.
std::vector<float> rows_of_all_kinds(Code code, uint32_t seed) {
  std::vector<float> x = random_floats(16 * kStride, seed, 0.02f);
  const auto row = [&](int r) { return x.data() + r * kStride; };
  const std::span<const int8_t> level = levels(code);
  std::mt19937 engine(seed + 1);
  for (int64_t k = 0; k < kStride; ++k) {
    row(1)[k] = 0.0f;
    row(2)[k] = row(2)[k] * row(2)[k] * row(2)[k] * 1e4f;  // heavy tail
    row(3)[k] *= 1e-5f;                                    // scales below fp16's normal range
    row(4)[k] *= 1e-37f;                                   // float32's own subnormals
    row(5)[k] = largest_weight(code) * (k % 3 == 0 ? -1.0f : 0.5f);
    row(6)[k] = 0.125f * static_cast<float>(level[engine() % level.size()]);  // on a lattice
    row(7)[k] = -0.75f * static_cast<float>(level[engine() % level.size()]);  // of either sign
    row(8)[k] = k / kGroupK % 2 == 0 ? 0.0f : row(8)[k];                      // groups of zeros
    row(9)[k] = k == 7 ? 3.0f : row(9)[k];                                    // an outlier
    row(10)[k] = std::fabs(row(10)[k]);                                       // one-sided
    row(11)[k] *= k / kGroupK == 0 ? 1.0f : 0.01f;                            // unequal groups
    row(12)[k] = 1.0f;
    row(13)[k] = -0.0f;
    row(14)[k] = bf16_to_float(float_to_bf16(row(14)[k]));
  }
  return x;
}

struct Rounded {
  std::vector<uint8_t> indices = std::vector<uint8_t>(kMostBlockK * kPanelRows, 0xee);
  RoundedRows rows{};
};

Rounded round(const KernelTable& table, Code code, bool has_multipliers,
              const std::vector<float>& x, int n) {
  Rounded out;
  out.rows.indices = out.indices.data();
  table.round_rows(code, has_multipliers, x.data(), kStride, n, &out.rows);
  return out;
}

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

void expect_same(const Rounded& got, const Rounded& expected, bool has_multipliers, int n,
                 const std::string& what) {
  for (int row = 0; row < kPanelRows; ++row) {
    const std::string where = fmt::format("{}, {} inputs, row {}", what, n, row);
    ASSERT_EQ(got.rows.scales[row], expected.rows.scales[row]) << where;
    ASSERT_EQ(bits_of(got.rows.errors[row]), bits_of(expected.rows.errors[row])) << where;
    ASSERT_EQ(bits_of(got.rows.energies[row]), bits_of(expected.rows.energies[row])) << where;
    for (int k = 0; k < n; ++k) {
      const size_t at = static_cast<size_t>(k / 4 * 64 + row * 4 + k % 4);
      ASSERT_EQ(got.indices[at], expected.indices[at]) << where << " input " << k;
    }
    for (int g = 0; has_multipliers && g * kGroupK < n; ++g)
      ASSERT_EQ(got.rows.multipliers[g][row], expected.rows.multipliers[g][row]) << where << g;
  }
  for (size_t i = static_cast<size_t>((n + 3) / 4 * 64); i < got.indices.size(); ++i)
    ASSERT_EQ(got.indices[i], 0xee) << what << ": wrote beyond " << n << " inputs";
}

class RoundingTables : public testing::TestWithParam<const KernelTable*> {};

TEST_P(RoundingTables, ChooseTheIntegersOfTheRule) {
  uint32_t seed = 1;
  for (const Code code : kPackedCodes)
    for (const bool has_multipliers : {false, true}) {
      if (has_multipliers && traits(code).multiplier_bits == 0) continue;
      const int most = traits(code).scale_k;
      for (const int n : {most, most - 1, 64, 96, 33, 32, 31, 16, 9, 4, 3, 1}) {
        if (n > most) continue;
        const std::vector<float> x = rows_of_all_kinds(code, seed++);
        expect_same(round(*GetParam(), code, has_multipliers, x, n),
                    round(kernels_up_to("reference"), code, has_multipliers, x, n), has_multipliers,
                    n, std::string(code_name(code)));
      }
    }
}

INSTANTIATE_TEST_SUITE_P(AllTables, RoundingTables, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
