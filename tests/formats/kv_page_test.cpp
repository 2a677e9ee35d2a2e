// Packed pages: sizes, a place for every value, bits there and back, and the levels derived again.
#include "formats/kv_page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

namespace lapidary {
namespace {

constexpr KvCode kCodes[] = {KvCode::kInt8, KvCode::k5Bit, KvCode::k4Bit, KvCode::k3Bit};
constexpr KvRole kRoles[] = {KvRole::kKeys, KvRole::kValues, KvRole::kBoth};

TEST(KvPage, SizesAreTheDocumentedOnes) {
  const auto bytes = [](KvCode code, int d) {
    return kv_page_geometry(KvRole::kKeys, code, d).bytes;
  };
  EXPECT_EQ(bytes(KvCode::kInt8, 64), 4224);
  EXPECT_EQ(bytes(KvCode::k4Bit, 64), 2176);
  EXPECT_EQ(bytes(KvCode::k3Bit, 64), 1664);
  EXPECT_EQ(bytes(KvCode::kInt8, 512), 33280);
  EXPECT_EQ(bytes(KvCode::k4Bit, 512), 16512);
  EXPECT_EQ(bytes(KvCode::k3Bit, 512), 12416);
  // V-only, 128 rotary dims of 512: 520 bytes a token at 8 bits, 128 + 384 * 5 / 8 + 4 at 5.
  EXPECT_EQ(kv_page_geometry(KvRole::kBoth, KvCode::kInt8, 512, 128).bytes, 64 * 520);
  EXPECT_EQ(kv_page_geometry(KvRole::kBoth, KvCode::k5Bit, 512, 128).bytes, 64 * 372);
}

TEST(KvPage, EveryValueHasItsOwnPlace) {
  for (const KvRole role : kRoles)
    for (const KvCode code : kCodes)
      for (const int d : {16, 64, 80, 96, 128, 200, 512}) {
        const KvPageGeometry page =
            kv_page_geometry(role, code, d, role == KvRole::kBoth ? d / 8 * 2 : 0);
        int dims = 0;
        int64_t end = 0;
        for (int b = 0; b < page.n_blocks; ++b) {
          const KvBlock& block = page.blocks[b];
          EXPECT_EQ(block.first_dim, dims);
          EXPECT_EQ(block.offset, end);
          EXPECT_EQ(block.offset % 64, 0);
          std::set<int> places;
          for (int token = 0; token < kPageTokens; ++token)
            for (int dim = 0; dim < block.padded_dims; ++dim) {
              const KvPlace place = kv_place(page, block, token, dim);
              ASSERT_LT(place.unit, kv_units(block));
              places.insert((place.unit * 2 + place.line) * 64 + place.byte);
            }
          EXPECT_EQ(int(places.size()), block.padded_dims * kPageTokens);
          dims += block.n_dims;
          end += kv_units(block) * kv_unit_bytes(block.code);
        }
        EXPECT_EQ(dims, d);
        EXPECT_EQ(page.scales_offset, end);
        EXPECT_EQ(page.bytes, end + page.n_blocks * kPageTokens * 2);
        EXPECT_EQ(page.bytes % 128, 0);
      }
}

TEST(KvPage, IndicesComeBackFromTheirBits) {
  std::mt19937 engine(1);
  for (const KvCode code : kCodes) {
    constexpr int kUnits = 7;
    std::vector<uint8_t> lines(kUnits * 128), back(lines.size());
    const uint32_t range = code == KvCode::k3Bit ? 64 : 1u << kv_bits(code);
    for (size_t i = 0; i < lines.size(); ++i)
      lines[i] = code == KvCode::k3Bit && i / 64 % 2 ? lines[i - 64] : uint8_t(engine() % range);
    std::vector<uint8_t> bits(size_t(kUnits * kv_unit_bytes(code)) + 1, 0xee);
    pack_kv_units(code, lines.data(), kUnits, bits.data());
    EXPECT_EQ(bits.back(), 0xee);
    unpack_kv_units(code, bits.data(), kUnits, back.data());
    EXPECT_EQ(back, lines);
  }
}

// Lloyd's fixed point for N(0, 1): each level the mean of the density between the midpoints.
std::vector<double> lloyd_max(int n) {
  const auto density = [](double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); };
  const auto below = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  std::vector<double> c(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) c[size_t(i)] = -3 + 6.0 * i / (n - 1);
  for (int round = 0; round < 8000; ++round) {
    std::vector<double> edge{-30};
    for (size_t i = 1; i < c.size(); ++i) edge.push_back((c[i - 1] + c[i]) / 2);
    edge.push_back(30);
    for (size_t i = 0; i < c.size(); ++i)
      c[i] = (density(edge[i]) - density(edge[i + 1])) / (below(edge[i + 1]) - below(edge[i]));
  }
  return c;
}

TEST(KvPage, ScalarLevelsAreLloydMax) {
  for (const KvCode code : {KvCode::k4Bit, KvCode::k5Bit}) {
    const int n = 1 << kv_bits(code);
    const std::vector<double> c = lloyd_max(n);
    EXPECT_NEAR(kv_deviation(code), 127 / c.back(), 1e-3);
    for (int i = 0; i < n; ++i)
      EXPECT_EQ(kv_levels(code)[i], std::lround(127 * c[size_t(i)] / c.back())) << i;
  }
}

// A trained codebook cannot be derived to the digit, but it is a fixed point: each point lies near
// the mean of the pairs that choose it, and the distortion is the trained one.
TEST(KvPage, PairsAreAFixedPointOfLloyd) {
  std::mt19937 engine(5);
  std::normal_distribution<double> normal;
  const int8_t* pairs = kv_levels(KvCode::k3Bit);
  const double unit = kv_deviation(KvCode::k3Bit);
  double error = 0, moved = 0;
  std::vector<double> sums(64 * 3);
  constexpr int kSamples = 200000;
  for (int s = 0; s < kSamples; ++s) {
    const double y[2] = {normal(engine) * unit, normal(engine) * unit};
    double best = 1e30;
    size_t chosen = 0;
    for (size_t j = 0; j < 64; ++j) {
      const double distance =
          std::pow(y[0] - pairs[2 * j], 2) + std::pow(y[1] - pairs[2 * j + 1], 2);
      if (distance < best) best = distance, chosen = j;
    }
    error += best;
    for (size_t k = 0; k < 2; ++k) sums[3 * chosen + k] += y[k];
    sums[3 * chosen + 2] += 1;
  }
  // 200,000 samples know the mean squared error to about 0.4 %.
  EXPECT_NEAR(error / kSamples / 2 / (unit * unit), 0.0297, 0.0003);
  for (size_t j = 0; j < 64; ++j)
    for (size_t k = 0; k < 2; ++k)
      moved += sums[3 * j + 2] * std::pow(sums[3 * j + k] / sums[3 * j + 2] - pairs[2 * j + k], 2);
  EXPECT_LT(moved / error, 0.01);  // what another step could gain
}

}  // namespace
}  // namespace lapidary
