// Random files: the sizes that quantize() would give, normal numbers of the asked deviation.
#include "quantize/random_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/quantize/memory_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

constexpr float kDeviation = 0.02f;

// Rows and widths that fill neither panels nor tiles, an expert stack, and a row table.
MemorySource odd_source() {
  MemorySource source;
  source.config().ple_width = 48;
  source.add_random("model.layers.0.mlp.up_proj.weight", {37, 100});
  source.add_random("model.layers.0.experts.down_proj", {3, 20, 700});
  source.add_random("model.embed_tokens_per_layer.weight", {33, 48});
  source.add_random("model.norm.weight", {19});
  return source;
}

TEST(RandomWeights, PackedTensorsHaveTheAskedDeviationAtOddSizes) {
  const MemorySource source = odd_source();
  for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                          Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6}) {
    TemporaryFolder folder;
    QuantizeOptions options;
    options.weights = code;
    const QuantizeReport report =
        write_random(source, folder.file("r.lap"), kDeviation, options, {});
    EXPECT_EQ(report.bytes, plan(source, options).bytes);
    const auto lap = LapReader::open(folder.file("r.lap"));
    EXPECT_TRUE(lap->verify({}).empty());
    for (size_t i = 0; i < lap->tensors().size(); ++i) {
      const SourceTensor& t = lap->tensors()[i];
      if (t.shape.size() == 1) continue;
      std::vector<float> values(static_cast<size_t>(t.elements()));
      lap->read_rows(i, 0, t.rows(), values);
      double square = 0;
      for (const float v : values) square += double{v} * v / static_cast<double>(values.size());
      // Scales alone scatter by up to a quarter, and these tensors have few of them.
      EXPECT_NEAR(std::sqrt(square) / kDeviation, 1.0, 0.3) << code_name(code) << " " << t.name;
    }
  }
}

TEST(RandomWeights, FloatTensorsComeFromTheSource) {
  const MemorySource source = odd_source();
  TemporaryFolder folder;
  write_random(source, folder.file("r.lap"), kDeviation, {}, {});
  const auto lap = LapReader::open(folder.file("r.lap"));
  std::vector<float> wanted(19), found(19);
  source.read_rows(3, 0, 1, wanted);
  lap->read_rows(3, 0, 1, found);
  EXPECT_EQ(wanted, found);
}

}  // namespace
}  // namespace lapidary
