// Lattices are found, stored as what they are and read back; a single weight off one ends it.
#include "quantize/lattice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "formats/dtype.h"
#include "formats/lap.h"
#include "formats/lap_copy.h"
#include "tests/quantize/memory_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

struct Lattice {
  int low = -8, high = 7;
  Code stored = Code::kBF16;
};

// Rows of 32-blocks, each with a scale of its own; the outermost level is any from 3 up.
std::vector<float> lattice_weights(const Lattice& lattice, int64_t rows, int64_t k) {
  std::mt19937 random(7);
  std::vector<float> values(static_cast<size_t>(rows * k));
  float scale = 0;
  int reach = 0;
  for (int64_t i = 0; i < rows * k; ++i) {
    if (i % k % kGroupK == 0) {
      scale = f16_to_float(float_to_f16(0.001f + 1e-6f * static_cast<float>(random() % 9000)));
      reach = 3 + static_cast<int>(random() % static_cast<unsigned>(-lattice.low - 2));
    }
    const int level =
        std::clamp(static_cast<int>(random() % static_cast<unsigned>(2 * reach + 1)) - reach,
                   lattice.low, lattice.high);
    const float value = static_cast<float>(level) * scale;
    values[static_cast<size_t>(i)] =
        lattice.stored == Code::kBF16 ? bf16_to_float(float_to_bf16(value)) : value;
  }
  return values;
}

constexpr const char* kName = "model.layers.0.mlp.up_proj.weight";

MemorySource source_of(std::vector<float> values, int64_t rows, int64_t k, Code stored) {
  MemorySource source;
  source.add(kName, {rows, k}, std::move(values), stored);
  return source;
}

// What readers of the stored file see, as the source's code would round it.
std::vector<float> round_trip(const MemorySource& source, Code code) {
  const TemporaryFolder folder;
  QuantizeOptions options;
  options.keep = {{"*", code}};
  quantize(source, folder.file("q.lap"), options, {});
  const auto lap = LapReader::open(folder.file("q.lap"));
  const SourceTensor& t = source.tensors()[0];
  std::vector<float> out(static_cast<size_t>(t.elements()));
  lap->read_rows(0, 0, t.rows(), out);
  for (float& v : out)
    if (t.code == Code::kBF16) v = bf16_to_float(float_to_bf16(v));
  return out;
}

class Lattices : public testing::TestWithParam<std::tuple<Lattice, int>> {};

// 96: the last tile is ragged. 80: so is the last block. 37 rows: so is the last panel.
TEST_P(Lattices, AreFoundAndStoredExactly) {
  const auto [lattice, k] = GetParam();
  const Code expected = lattice.low >= -8 ? Code::kW4x : Code::kW8x;
  const std::vector<float> weights = lattice_weights(lattice, 37, k);
  const MemorySource source = source_of(weights, 37, k, lattice.stored);
  EXPECT_EQ(lattice_code(source, 0), expected);
  EXPECT_EQ(round_trip(source, expected), weights);
}

TEST_P(Lattices, OneWeightOffIsNone) {
  const auto [lattice, k] = GetParam();
  // Rounded to bf16, a single weight may well lie on some lattice of 255 levels.
  if (lattice.low < -8 && lattice.stored == Code::kBF16) return;
  std::vector<float> weights = lattice_weights(lattice, 37, k);
  // In the last block, and its largest: a scale that fits it would have to fit all others too.
  float& weight = weights[weights.size() - 5];
  for (size_t i = weights.size() - 16; i < weights.size(); ++i)
    weight = std::max(weight, std::fabs(weights[i]));
  weight = bf16_to_float(float_to_bf16(weight * 1.0546875f));
  const MemorySource source = source_of(weights, 37, k, lattice.stored);
  EXPECT_NE(lattice_code(source, 0), lattice.low >= -8 ? Code::kW4x : Code::kW8x);
}

INSTANTIATE_TEST_SUITE_P(
    Codes, Lattices,
    testing::Combine(testing::Values(Lattice{-8, 7, Code::kBF16}, Lattice{-8, 7, Code::kF32},
                                     Lattice{-7, 7, Code::kBF16}, Lattice{-127, 127, Code::kF32},
                                     Lattice{-127, 127, Code::kBF16}),
                     testing::Values(256, 96, 80)),
    [](const auto& info) {
      const Lattice& lattice = std::get<0>(info.param);
      return fmt::format("{}_{}_{}", -lattice.low, code_name(lattice.stored),
                         std::get<1>(info.param));
    });

TEST(LatticeFindings, AreStoredOnlyWhereThatCostsNothing) {
  const Lattice lattice;
  MemorySource source = source_of(lattice_weights(lattice, 32, 512), 32, 512, lattice.stored);
  source.add_random("model.layers.0.mlp.gate_proj.weight", {32, 512});
  source.add("model.layers.0.mlp.down_proj.weight", {32, 512}, std::vector<float>(32 * 512));
  QuantizeOptions options;
  options.weights = Code::kW4;  // 4.19 bits: w4x takes 4.5
  auto findings = find_lattices(source, options, {});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].tensor, kName);
  EXPECT_FALSE(findings[0].stored());
  options.weights = Code::kW5;
  findings = find_lattices(source, options, {});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_TRUE(findings[0].stored());
  EXPECT_EQ(findings[0].code, Code::kW4x);
  options.keep = {{"*up_proj*", Code::kW6}};  // what the user wants is left alone
  EXPECT_TRUE(find_lattices(source, options, {}).empty());
}

TEST(LatticeFindings, HoldForPerLayerEmbeddings) {
  const Lattice lattice;
  MemorySource source;
  source.config().ple_width = 64;
  source.add(std::string(kPleTensor), {8, 128}, lattice_weights(lattice, 16, 64), lattice.stored);
  EXPECT_EQ(lattice_code(source, 0), Code::kW4x);
  EXPECT_EQ(round_trip(source, Code::kW4x), lattice_weights(lattice, 16, 64));
}

TEST(LatticeFindings, TrainedWeightsLieOnNone) {
  MemorySource source;
  source.add_random(kName, {64, 256});
  EXPECT_FALSE(lattice_code(source, 0));
}

}  // namespace
}  // namespace lapidary
