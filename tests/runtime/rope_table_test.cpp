// Frequencies against values worked out by hand from the papers' formulas, and rows of angles.
#include "runtime/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lapidary {
namespace {

ModelConfig two_kinds() {
  ModelConfig config;
  LayerConfig sliding, global;
  sliding.head_dim = 64;
  global.head_dim = 128;
  global.rope = {.kind = RopeKind::kProportional, .theta = 1e6, .rotated_fraction = 0.25};
  config.layers = {sliding, sliding, global};
  return config;
}

TEST(RopeTable, ProportionalKeepsTheExponentsOfTheWholeHead) {
  // Gemma 4's global layers, values from transformers.
  const RopeConfig rope{.kind = RopeKind::kProportional, .theta = 1e6, .rotated_fraction = 0.25};
  const std::vector<double> f = rope_frequencies(rope, 512);
  ASSERT_EQ(f.size(), 256u);
  EXPECT_EQ(f[0], 1.0);
  EXPECT_NEAR(f[1], 0.947464, 1e-6);    // six digits are recorded
  EXPECT_NEAR(f[63], 0.0333762, 1e-7);  // the same
  for (size_t i = 64; i < 256; ++i) EXPECT_EQ(f[i], 0.0) << i;
}

TEST(RopeTable, DefaultDividesByTheFactor) {
  const RopeConfig plain{.theta = 1e4}, linear{.theta = 1e4, .factor = 8.0};
  EXPECT_DOUBLE_EQ(rope_frequencies(plain, 64)[16], 1e-2);  // 1e4^(-1/2)
  EXPECT_DOUBLE_EQ(rope_frequencies(linear, 64)[16], 1e-2 / 8);
}

TEST(RopeTable, Llama3LeavesHighFrequenciesAndDividesLowOnes) {
  const RopeConfig rope{.kind = RopeKind::kLlama3,
                        .theta = 5e5,
                        .factor = 8.0,
                        .low_freq_factor = 1.0,
                        .high_freq_factor = 4.0,
                        .original_context = 8192};
  const std::vector<double> f = rope_frequencies(rope, 128);
  EXPECT_EQ(f[0], 1.0);
  EXPECT_DOUBLE_EQ(f[63], std::pow(5e5, -126.0 / 128) / 8);
  for (size_t i = 1; i < f.size(); ++i) EXPECT_LT(f[i], f[i - 1]) << i;
  // Between the limits (wavelengths 2048 to 8192) the blend: pair 29 has 3.41 turns in 8192 tokens.
  const double base = std::pow(5e5, -58.0 / 128);
  const double smooth = (8192 * base / 6.283185307179586 - 1) / 3;
  EXPECT_NEAR(f[29], (1 - smooth) * base / 8 + smooth * base, 1e-15);
}

TEST(RopeTable, LayersOfOneKindShareTheirAngles) {
  const RopeTable table(two_kinds());
  ASSERT_EQ(table.width(), 64 + 128);
  std::vector<float> row(static_cast<size_t>(table.width()));
  table.fill(1000, row.data());
  EXPECT_EQ(table.cosines(row.data(), 0), table.cosines(row.data(), 1));
  EXPECT_EQ(table.cosines(row.data(), 0)[0], static_cast<float>(std::cos(1000.0)));
  EXPECT_EQ(table.sines(row.data(), 2)[0], static_cast<float>(std::sin(1000.0)));
  EXPECT_EQ(table.cosines(row.data(), 2)[63], 1.0f);  // not rotated
  EXPECT_EQ(table.sines(row.data(), 2)[63], 0.0f);
}

}  // namespace
}  // namespace lapidary
