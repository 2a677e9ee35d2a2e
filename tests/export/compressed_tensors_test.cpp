// vLLM folders read back by their definition: integers that go over, rounding that is told, the
// config that names every module once.
#include "export/compressed_tensors.h"

#include <fmt/format.h>
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

class CompressedTensors : public ::testing::Test {
 protected:
  FolderReport exported(const LapReader& model, IntegerChoice choice = {},
                        std::vector<KvRange> fp8_cache = {}) {
    CompressedTensorsOptions options;
    options.integers = choice;
    options.fp8_cache = std::move(fp8_cache);
    options.folder.overwrite = true;
    options.folder.n_threads = 2;
    const FolderReport report =
        export_compressed_tensors(model, folder_.file("ct"), options, Events{});
    config_ = Json::parse(read_text(folder_.file("ct/config.json")))["quantization_config"];
    return report;
  }
  SafetensorsSet read() { return SafetensorsSet::open_folder(folder_.file("ct")); }

  // A module's weights by the format's definition, float32.
  std::vector<float> weights(const SafetensorsSet& set, const std::string& module, int bits) {
    const SafetensorsEntry* packed = set.find(module + ".weight_packed");
    const SafetensorsEntry* scale = set.find(module + ".weight_scale");
    const std::vector<int32_t> shape = set.read_ints(*set.find(module + ".weight_shape"));
    EXPECT_EQ(packed->dtype, DType::kI32);
    const std::vector<int32_t> words = set.read_ints(*packed);
    const std::vector<float> scales = set.read_floats(*scale);
    const int64_t rows = shape[0], k = shape[1], groups = scale->shape[1];
    EXPECT_EQ(packed->shape, (std::vector<int64_t>{rows, k * bits / 32}));
    std::vector<float> out;
    for (int64_t i = 0; i < rows * k; ++i) {
      const uint32_t word = static_cast<uint32_t>(words[static_cast<size_t>(i * bits / 32)]);
      const int value = static_cast<int>(word >> (i * bits % 32) & ((1u << bits) - 1));
      const size_t s = static_cast<size_t>(i / k * groups + i % k / (k / groups));
      out.push_back(scales[s] * static_cast<float>(value - (1 << (bits - 1))));
    }
    return out;
  }

  TemporaryFolder folder_;
  Json config_;
};

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(a[i] - b[i], 2);
    square += std::pow(b[i], 2);
  }
  return error / square;
}

TEST_F(CompressedTensors, PackedIntegersGoOverWithoutLoss) {
  for (const auto& [code, bits] : {std::pair{Code::kW4x, 4}, {Code::kW8x, 8}})
    for (const char* fixture : {"nano-e", "tiny-llama3", "tiny-gemma3"}) {
      const auto model = quantized(data_path(fixture), code, folder_);
      const FolderReport report = exported(*model);
      const SafetensorsSet set = read();
      int n_exact = 0;
      for (const FolderReport::Tensor& t : report.tensors) {
        if (quantizable_module(t.name).empty() || t.code != code) continue;
        EXPECT_TRUE(t.exact) << t.name;
        EXPECT_EQ(weights(set, quantizable_module(t.name), bits), values(*model, t.name)) << t.name;
        ++n_exact;
      }
      EXPECT_GT(n_exact, 15);
      EXPECT_EQ(config_["config_groups"]["group_0"]["targets"], Json::array({"Linear"}));
      EXPECT_EQ(config_["config_groups"]["group_0"]["weights"]["group_size"], 32);
    }
}

// A lattice of 4 bits is one of 8 bits, too.
TEST_F(CompressedTensors, FourBitsGoOverIntoEight) {
  const auto model = quantized(data_path("tiny-llama3"), Code::kW4x, folder_);
  const FolderReport report = exported(*model, {.bits = 8, .group = {}});
  const SafetensorsSet set = read();
  const std::string module = "model.layers.1.mlp.down_proj";
  EXPECT_EQ(weights(set, module, 8), values(*model, module + ".weight"));
}

TEST_F(CompressedTensors, OtherCodesAndFloatsAreRoundedAndSaidSo) {
  const std::string name = "model.layers.0.mlp.down_proj", source = data_path("nano-e");
  const auto master = converted(source, folder_);
  struct Case {
    IntegerChoice choice;
    int bits;
    double most;  // Gaussian weights: 0.0065 at 4 bits per 32; per row of 512, 8 bits lose 9e-5
  };
  for (const Case& c :
       {Case{{.bits = 4, .group = {}}, 4, 0.008}, Case{{.bits = 8, .group = {}}, 8, 2e-4},
        Case{{.bits = 8, .group = 32}, 8, 5e-5}}) {
    exported(*master, c.choice);
    const double error =
        relative_error(weights(read(), name, c.bits), values(*master, name + ".weight"));
    EXPECT_LT(error, c.most);
    EXPECT_GT(error, c.most / 10);
  }
  const auto packed = quantized(source, Code::kW4, folder_);
  for (const FolderReport::Tensor& t : exported(*packed).tensors)
    EXPECT_FALSE(t.exact && t.code == Code::kW4) << t.name;
  EXPECT_LT(relative_error(weights(read(), name, 4), values(*packed, name + ".weight")), 0.008);
  EXPECT_NE(read_text(folder_.file("ct/README.md")).find("rounded to compressed-tensors"),
            std::string::npos);
}

TEST_F(CompressedTensors, FusedPartnersShareTheWiderScheme) {
  const auto model = quantized(data_path("tiny-llama3"), Code::kW4x, folder_,
                               {{"model.layers.0.self_attn.q_proj.weight", Code::kW8x},
                                {"model.layers.1.mlp.up_proj.weight", Code::kBF16}});
  exported(*model);
  const SafetensorsSet set = read();
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    const std::string module = std::string("model.layers.0.self_attn.") + part;
    EXPECT_EQ(weights(set, module, 8), values(*model, module + ".weight"));
  }
  EXPECT_NE(set.find("model.layers.1.mlp.gate_proj.weight"), nullptr);
  const Json& groups = config_["config_groups"];
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups["group_1"]["targets"].size(), 3u);
  const auto ignored = config_["ignore"].get<std::vector<std::string>>();
  for (const char* name : {"lm_head", "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"})
    EXPECT_EQ(std::count(ignored.begin(), ignored.end(), name), 1) << name;
}

TEST_F(CompressedTensors, NarrowRowsFallBackAndAreNamed) {
  const auto master =
      converted(data_path("tiny-gemma4-omni"), folder_);  // per_layer_projection: 16 inputs
  const FolderReport report = exported(*master, {.bits = 4, .group = {}});
  EXPECT_TRUE(std::any_of(report.notes.begin(), report.notes.end(), [](const std::string& note) {
    return note.find("per_layer_projection.weight: rows of 16") != std::string::npos;
  }));
  const std::string name = "model.layers.0.per_layer_projection";
  EXPECT_LT(relative_error(weights(read(), name, 8), values(*master, name + ".weight")), 2e-4);
}

TEST_F(CompressedTensors, ExpertsBecomeModulesOfTheirOwn) {
  const std::string source = shared_path("checkpoints/small-moe");
  LAPIDARY_SKIP_WITHOUT(source);
  const auto model = quantized(source, Code::kW4x, folder_);
  exported(*model);
  const SafetensorsSet set = read();
  const std::string experts = "model.layers.1.experts.";
  const std::vector<float> gate_up = values(*model, experts + "gate_up_proj");
  const std::vector<float> down = values(*model, experts + "down_proj");
  const size_t third = gate_up.size() / 32 / 2;  // gate or up of one of 32 experts
  for (const size_t e : {size_t{0}, size_t{17}, size_t{31}}) {
    const auto at = [&](const std::vector<float>& all, size_t first, size_t n) {
      return std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(first),
                                all.begin() + static_cast<std::ptrdiff_t>(first + n));
    };
    const std::string expert = experts + std::to_string(e);
    EXPECT_EQ(weights(set, expert + ".gate_proj", 4), at(gate_up, 2 * e * third, third));
    EXPECT_EQ(weights(set, expert + ".up_proj", 4), at(gate_up, (2 * e + 1) * third, third));
    EXPECT_EQ(weights(set, expert + ".down_proj", 4),
              at(down, e * down.size() / 32, down.size() / 32));
  }
}

TEST_F(CompressedTensors, SameBytesForAnyNumberOfThreads) {
  const auto model = quantized(data_path("nano-e"), Code::kW4, folder_);
  std::vector<std::string> files;
  for (const int threads : {1, 2}) {
    CompressedTensorsOptions options;
    options.folder.n_threads = threads;
    const std::string out = folder_.file("ct" + std::to_string(threads));
    export_compressed_tensors(*model, out, options, Events{});
    files.push_back(read_text(out + "/model.safetensors"));
  }
  EXPECT_EQ(files[0], files[1]);
}

// Nothing of the cache unless it is asked for; then vLLM's one scheme and a scale for K and V of
// every layer, which takes the largest magnitude to E4M3's largest number, 448, and not past it.
TEST_F(CompressedTensors, AnFp8CacheHasItsSchemeAndScales) {
  const auto model = quantized(data_path("tiny-llama3"), Code::kW4x, folder_);
  exported(*model);
  EXPECT_TRUE(config_["kv_cache_scheme"].is_null());
  EXPECT_EQ(read().find("model.layers.0.self_attn.k_scale"), nullptr);
  std::vector<KvRange> layers(model->metadata().config.layers.size(), {7.3f, 0.0f});
  layers[1] = {0.0101f, 448};
  exported(*model, {}, layers);
  const Json& scheme = config_["kv_cache_scheme"];
  EXPECT_EQ(scheme["type"], "float");
  EXPECT_EQ(scheme["num_bits"], 8);
  EXPECT_EQ(scheme["strategy"], "tensor");
  EXPECT_EQ(scheme["symmetric"], true);
  EXPECT_EQ(scheme["dynamic"], false);
  const SafetensorsSet set = read();
  const auto scale = [&](size_t layer, const std::string& name) {
    const auto* entry = set.find(fmt::format("model.layers.{}.self_attn.{}", layer, name));
    EXPECT_EQ(entry->shape, std::vector<int64_t>{1});
    return set.read_floats(*entry)[0];
  };
  for (size_t l = 0; l < layers.size(); ++l) {
    EXPECT_GE(448 * scale(l, "k_scale"), layers[l].keys);
    EXPECT_LE(448 * scale(l, "k_scale"), layers[l].keys * (1 + 1.0f / 128));  // bf16 rounded up
  }
  EXPECT_EQ(scale(1, "v_scale"), 1);
  EXPECT_EQ(scale(0, "v_scale"), 1);  // nothing was seen
}

TEST_F(CompressedTensors, FloatsWithoutATypeAreRefused) {
  const auto master = converted(data_path("tiny-qwen3"), folder_);
  EXPECT_THROW(exported(*master), Error);
  EXPECT_FALSE(path_exists(folder_.file("ct")));
}

}  // namespace
}  // namespace lapidary
