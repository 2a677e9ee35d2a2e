// MLX folders read back by their definition: integers that go over, experts apart, the config that
// tells what differs.
#include "export/mlx_export.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "formats/safetensors.h"
#include "tests/export/made_models.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

class MlxExport : public ::testing::Test {
 protected:
  FolderReport exported(const LapReader& model, MlxOptions options = {}) {
    options.folder.overwrite = true;
    options.folder.n_threads = 2;
    const FolderReport report = export_mlx(model, folder_.file("mlx"), options, Events{});
    config_ = Json::parse(read_text(folder_.file("mlx/config.json")));
    return report;
  }
  SafetensorsSet read() { return SafetensorsSet::open_folder(folder_.file("mlx")); }

  // A module's weights by the format's definition: scale * index + bias, in float32.
  static std::vector<float> weights(const SafetensorsSet& set, const std::string& path, int bits) {
    const SafetensorsEntry* packed = set.find(path + ".weight");
    const SafetensorsEntry* scale_entry = set.find(path + ".scales");
    EXPECT_EQ(packed->dtype, DType::kU32);
    EXPECT_EQ(scale_entry->shape.size(), packed->shape.size());
    const std::vector<float> scales = set.read_floats(*scale_entry);
    const std::vector<float> biases = set.read_floats(*set.find(path + ".biases"));
    std::vector<uint8_t> bytes(static_cast<size_t>(packed->bytes));
    set.read(*packed, 0, bytes);
    const size_t n = bytes.size() * 8 / static_cast<size_t>(bits), group = n / scales.size();
    std::vector<float> out;
    for (size_t i = 0; i < n; ++i) {
      const int index = bits == 8 ? bytes[i] : bytes[i / 2] >> (4 * (i % 2)) & 15;
      out.push_back(scales[i / group] * static_cast<float>(index) + biases[i / group]);
    }
    return out;
  }

  TemporaryFolder folder_;
  Json config_;
};

TEST_F(MlxExport, PackedIntegersGoOverWithoutLoss) {
  for (const auto& [code, bits] : {std::pair{Code::kW4x, 4}, {Code::kW8x, 8}})
    for (const char* fixture : {"nano-e", "tiny-llama3"}) {
      const auto model = quantized(data_path(fixture), code, folder_);
      const FolderReport report = exported(*model);
      const SafetensorsSet set = read();
      int n_exact = 0;
      for (const FolderReport::Tensor& t : report.tensors) {
        if (!t.exact || t.code != code) continue;
        const std::string path = t.name.substr(0, t.name.rfind(".weight"));
        EXPECT_EQ(weights(set, path, bits), values(*model, t.name)) << t.name;
        ++n_exact;
      }
      EXPECT_GT(n_exact, 15) << fixture;
      EXPECT_EQ(config_["quantization"]["bits"], bits);
      EXPECT_EQ(config_["quantization"]["group_size"], 32);
    }
}

TEST_F(MlxExport, EveryMatrixOfAMasterIsRoundedTheRouterToEightBits) {
  const auto master = converted(data_path("nano-e"), folder_);
  MlxOptions options;
  options.bits = 4;
  options.group = 32;
  exported(*master, options);
  const SafetensorsSet set = read();
  for (const auto& [path, bits] : {std::pair{"model.embed_tokens", 4},
                                   {"model.embed_tokens_per_layer", 4},
                                   {"model.per_layer_model_projection", 8},
                                   {"model.layers.0.mlp.down_proj", 4}}) {
    const std::vector<float> exact = values(*master, std::string(path) + ".weight");
    const std::vector<float> got = weights(set, path, bits);
    ASSERT_EQ(got.size(), exact.size()) << path;
    double error = 0, square = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      error += std::pow(got[i] - exact[i], 2);
      square += std::pow(exact[i], 2);
    }
    EXPECT_LT(error / square, bits == 4 ? 0.008 : 5e-5) << path;
  }
  EXPECT_EQ(config_["quantization"]["model.per_layer_model_projection"]["bits"], 8);
}

TEST_F(MlxExport, FloatsKeepTheirBits) {
  for (const char* fixture : {"nano-e", "tiny-gemma3", "tiny-qwen3"}) {
    const auto master = converted(data_path(fixture), folder_);
    const FolderReport report = exported(*master);
    EXPECT_FALSE(config_.contains("quantization"));
    const SafetensorsSet set = read();
    for (const FolderReport::Tensor& t : report.tensors) {
      EXPECT_TRUE(t.exact) << t.name;
      EXPECT_EQ(set.read_floats(*set.find(t.name)), values(*master, t.name)) << t.name;
    }
  }
}

TEST_F(MlxExport, ExpertsStandUnderSwitchGlu) {
  const std::string source = shared_path("checkpoints/small-moe");
  LAPIDARY_SKIP_WITHOUT(source);
  const std::string experts = "model.layers.1.experts.";
  const auto packed = quantized(source, Code::kW4x, folder_);
  exported(*packed);
  const SafetensorsSet set = read();
  const std::vector<float> gate_up = values(*packed, experts + "gate_up_proj");
  const std::vector<float> gate = weights(set, experts + "switch_glu.gate_proj", 4);
  const std::vector<float> up = weights(set, experts + "switch_glu.up_proj", 4);
  const size_t part = gate.size() / 32;
  for (size_t e = 0; e < 32; ++e)
    for (size_t i = 0; i < part; ++i) {
      ASSERT_EQ(gate[e * part + i], gate_up[2 * e * part + i]);
      ASSERT_EQ(up[e * part + i], gate_up[(2 * e + 1) * part + i]);
    }
  EXPECT_EQ(weights(set, experts + "switch_glu.down_proj", 4),
            values(*packed, experts + "down_proj"));

  const auto master = converted(source, folder_);
  exported(*master);
  const SafetensorsSet floats = read();
  const SafetensorsEntry* entry = floats.find(experts + "switch_glu.up_proj.weight");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->shape.size(), 3u);
  const std::vector<float> exact = values(*master, experts + "gate_up_proj");
  EXPECT_EQ(floats.read_floats(*entry)[0], exact[part]);
}

}  // namespace
}  // namespace lapidary
