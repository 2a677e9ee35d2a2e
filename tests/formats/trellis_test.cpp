// The trellis codes' definition: rings, their bits, and levels that shall never change.
#include "formats/trellis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "formats/dtype.h"
#include "formats/packed_matrix.h"

namespace lapidary {
namespace {

constexpr Code kTrellisCodes[] = {Code::kT3, Code::kT4, Code::kT5, Code::kT6};

std::vector<uint8_t> random_symbols(int bits, size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> symbols(n);
  for (uint8_t& symbol : symbols) symbol = static_cast<uint8_t>(random() % (1u << bits));
  return symbols;
}

std::vector<int8_t> levels_of(int bits, const std::vector<uint8_t>& symbols) {
  std::vector<int8_t> levels(symbols.size());
  trellis_levels(bits, symbols, levels);
  return levels;
}

TEST(Trellis, LevelsAreOddAscendingAndSymmetricInt8) {
  double square = 0;
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(kTrellisLevels[i], -kTrellisLevels[255 - i]);
    EXPECT_GT(kTrellisLevels[i], -128);
    EXPECT_LE(kTrellisLevels[std::max(i - 1, 0)], kTrellisLevels[i]);
    square += kTrellisLevels[i] * kTrellisLevels[i];
  }
  EXPECT_NEAR(std::sqrt(square / 256), kTrellisDeviation, 0.05);
}

TEST(Trellis, LevelsAreStretchedNormalQuantiles) {
  const auto quantile = [](double p) {
    double low = 0, high = 8;
    while (high - low > 1e-12) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
    }
    return low;
  };
  const double last = quantile(255.5 / 256);
  for (int i = 128; i < 256; ++i) {
    const double z = quantile((i + 0.5) / 256);
    const double stretched = z * (1 + (3.6 / last - 1) * std::pow(z / last, 4));
    EXPECT_EQ(kTrellisLevels[i], std::lround(127 / 3.6 * stretched)) << i;
  }
}

// Each branch of the trellis must leave a state towards levels far apart: the reason why the codes
// are good. Sixteen or so branches that all led to similar levels would make it a bad scalar code.
TEST(Trellis, EveryHistoryReachesLevelsAllOverTheRange) {
  for (int bits = 3; bits <= 6; ++bits)
    for (uint32_t history = 0; history < kTrellisStates; history += 1u << bits) {
      int lowest = 127, highest = -127, near_zero = 127;
      for (uint32_t symbol = 0; symbol < 1u << bits; ++symbol) {
        const int level = trellis_level(bits, history | symbol);
        lowest = std::min(lowest, level);
        highest = std::max(highest, level);
        near_zero = std::min(near_zero, std::abs(level));
      }
      ASSERT_LT(lowest, -30) << bits << " " << history;
      ASSERT_GT(highest, 30) << bits << " " << history;
      ASSERT_LE(near_zero, 12) << bits << " " << history;
    }
}

TEST(Trellis, ASymbolTouchesItsOwnStepAndTheFewBeforeIt) {
  for (int bits = 3; bits <= 6; ++bits) {
    const size_t n = 32, at = 1, reach = static_cast<size_t>((kTrellisStateBits + bits - 1) / bits);
    std::vector<uint8_t> symbols = random_symbols(bits, n, 5);
    const std::vector<int8_t> before = levels_of(bits, symbols);
    symbols[at] ^= 1;
    const std::vector<int8_t> after = levels_of(bits, symbols);
    for (size_t t = 0; t < n; ++t)
      EXPECT_TRUE(after[t] == before[t] || (at + n - t) % n < reach) << bits << " " << t;
    EXPECT_NE(after, before);
  }
}

// The same weights by the other reading of the definition: 12 bits from bit K t of a block of
// stored bytes, the block's first bits following its last.
TEST(Trellis, AWeightIsDecodedFromTheTwelveBitsAtItsPlace) {
  std::mt19937 random(9);
  for (const Code code : kTrellisCodes) {
    const int bits = traits(code).bits;
    const PackedGeometry g = packed_geometry(code, 16, 192);
    std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
    std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
    for (uint8_t& byte : codes) byte = static_cast<uint8_t>(random());
    const std::vector<int8_t> weights = panel_weights(g, unpack_panel(g, codes, meta));
    const int64_t block_bits = kTrellisSteps * bits;
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t k = 0; k < 192; ++k) {
        const int64_t block = k / 16, t = k % 16 / 4 * 64 + row * 4 + k % 4;
        uint32_t state = 0;
        for (int64_t i = 0; i < kTrellisStateBits; ++i) {
          const int64_t bit = block * block_bits + (t * bits + i) % block_bits;
          state |= static_cast<uint32_t>(codes[static_cast<size_t>(bit / 8)] >> (bit % 8) & 1) << i;
        }
        ASSERT_EQ(weights[static_cast<size_t>(row * 192 + k)], trellis_level(bits, state))
            << code_name(code) << " row " << row << " k " << k;
      }
  }
}

// Pins the factors and the table: a changed digit would change what every stored file means.
TEST(Trellis, LevelsStayWhatFilesMean) {
  const std::vector<uint8_t> symbols = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(levels_of(3, symbols), (std::vector<int8_t>{-16, -7, 1, 9, 17, 27, 91, -27}));
  EXPECT_EQ(levels_of(4, symbols), (std::vector<int8_t>{-46, 18, -19, 43, -2, -51, -33, 84}));
  EXPECT_EQ(levels_of(5, symbols), (std::vector<int8_t>{-1, 13, 28, 55, -49, -26, -11, 8}));
  EXPECT_EQ(levels_of(6, symbols), (std::vector<int8_t>{-50, 2, 62, -10, 34, -21, 19, 2}));
}

TEST(Trellis, RecordsAreRingsOfOneScaleBlock) {
  for (const Code code : kTrellisCodes)
    for (const int64_t width : {32, 256, 544}) {
      const RowTableGeometry g = row_table_geometry(code, 2, 3, width);
      const int bits = traits(code).bits;
      RecordIntegers in;
      in.indices = random_symbols(bits, static_cast<size_t>(width), 3);
      for (int64_t i = 0; i < g.n_scales; ++i)
        in.scales.push_back(float_to_f16(0.25f * static_cast<float>(i + 1)));
      std::vector<uint8_t> bytes(static_cast<size_t>(g.record_bytes));
      pack_record(g, in, bytes);
      std::vector<float> out(static_cast<size_t>(width));
      unpack_record(g, ScaleType::kF16, bytes, out);
      for (int64_t first = 0; first < width; first += 512) {
        const auto begin = in.indices.begin() + first;
        const std::vector<int8_t> expected =
            levels_of(bits, {begin, begin + std::min<int64_t>(512, width - first)});
        for (size_t i = 0; i < expected.size(); ++i)
          ASSERT_EQ(out[static_cast<size_t>(first) + i],
                    0.25f * static_cast<float>(first / 512 + 1) * expected[i])
              << code_name(code) << " " << width;
      }
    }
}

}  // namespace
}  // namespace lapidary
