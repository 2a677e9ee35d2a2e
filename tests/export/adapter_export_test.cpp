// Adapters in the other readers' terms: A and B where they look for them, times one scale.
#include "export/adapter_export.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "convert/hf_source.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "formats/safetensors.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

ModelConfig config_of(const char* fixture) {
  return HfSource::open(data_path(fixture))->metadata().config;
}

LoraModule random_module(const std::string& name, int64_t rank, int64_t in, int64_t out,
                         float scale) {
  std::mt19937 random(static_cast<unsigned>(rank + in + out));
  std::normal_distribution<float> normal;
  LoraModule m{name, rank, in, out, scale, {}, {}, {}};
  m.a.resize(static_cast<size_t>(rank * in));
  m.b.resize(static_cast<size_t>(out * rank));
  for (float& v : m.a) v = normal(random);
  for (float& v : m.b) v = normal(random);
  return m;
}

// Two modules of tiny-llama3 (hidden 128, 4 heads, MLP 352) with different ranks and scales, the
// first with rows that llama.cpp interleaves.
PeftAdapter two_modules(const ModelConfig& c) {
  const LayerConfig& layer = c.layers[0];
  PeftAdapter adapter;
  adapter.config.base_model_name = "tiny-llama3";
  adapter.modules = {
      random_module("model.layers.0.self_attn.q_proj", 4, c.d_model,
                    int64_t{layer.n_heads} * layer.head_dim, 2.0f),
      random_module("model.layers.1.mlp.down_proj", 2, layer.d_ff, c.d_model, 0.75f)};
  return adapter;
}

// scale * B A, row-major [out, in]; A is [rank, in], B [out, rank].
std::vector<float> delta(const std::vector<float>& a, const std::vector<float>& b, int64_t rank,
                         int64_t in, int64_t out, float scale) {
  std::vector<float> d(static_cast<size_t>(in * out));
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < rank; ++r)
        sum += double{b[static_cast<size_t>(o * rank + r)]} * a[static_cast<size_t>(r * in + i)];
      d[static_cast<size_t>(o * in + i)] = static_cast<float>(scale * sum);
    }
  return d;
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4f) << i;
}

std::vector<float> floats(const GgufReader& reader, const std::string& name) {
  for (const GgufTensor& t : reader.tensors())
    if (t.name == name) {
      const std::span<const uint8_t> bytes = reader.data(t);
      std::vector<float> values(bytes.size() / 4);
      std::memcpy(values.data(), bytes.data(), bytes.size());
      return values;
    }
  throw std::runtime_error("no tensor " + name);
}

TEST(AdapterExport, GgufHoldsTheDeltasOfEveryModule) {
  TemporaryFolder folder;
  const ModelConfig config = config_of("tiny-llama3");
  const PeftAdapter adapter = two_modules(config);
  export_adapter_gguf(adapter, config, folder.file("a.gguf"));
  const GgufReader reader(folder.file("a.gguf"));
  EXPECT_EQ(std::get<std::string>(*reader.find("general.type")), "adapter");
  EXPECT_EQ(std::get<std::string>(*reader.find("general.architecture")), "llama");
  EXPECT_EQ(std::get<std::string>(*reader.find("adapter.type")), "lora");
  const float alpha = std::get<float>(*reader.find("adapter.lora.alpha"));
  for (const LoraModule& m : adapter.modules) {
    const GgufPlace place = gguf_place(config, m.module + ".weight");
    const std::vector<float> got =
        delta(floats(reader, place.name + ".lora_a"), floats(reader, place.name + ".lora_b"),
              m.rank, m.in, m.out, alpha / static_cast<float>(m.rank));
    const std::vector<float> exact = delta(m.a, m.b, m.rank, m.in, m.out, m.scale);
    std::vector<float> arranged(exact.size());
    for (int64_t row = 0; row < m.out; ++row)
      std::copy_n(exact.begin() + source_row(place, row) * m.in, m.in,
                  arranged.begin() + row * m.in);
    expect_near(got, arranged);
  }
}

TEST(AdapterExport, MlxHoldsTheDeltasOfEveryModule) {
  TemporaryFolder folder;
  const ModelConfig config = config_of("tiny-llama3");
  const PeftAdapter adapter = two_modules(config);
  export_adapter_mlx(adapter, config, folder.file("mlx"), false);
  const Json json = Json::parse(read_text(folder.file("mlx/adapter_config.json")));
  const Json& lora = json["lora_parameters"];
  EXPECT_EQ(json["fine_tune_type"], "lora");
  EXPECT_EQ(lora["rank"], 4);
  EXPECT_EQ(lora["keys"].size(), 2u);
  const auto set = SafetensorsSet::open_file(folder.file("mlx/adapters.safetensors"));
  for (const LoraModule& m : adapter.modules) {
    const SafetensorsEntry* a = set.find(m.module + ".lora_a");
    const SafetensorsEntry* b = set.find(m.module + ".lora_b");
    ASSERT_EQ(a->shape, (std::vector<int64_t>{m.in, 4}));
    ASSERT_EQ(b->shape, (std::vector<int64_t>{4, m.out}));
    // (x A) B: the transposed delta is A B with A [in, rank].
    const std::vector<float> got =
        delta(set.read_floats(*b), set.read_floats(*a), 4, m.out, m.in, lora["scale"].get<float>());
    const std::vector<float> exact = delta(m.a, m.b, m.rank, m.in, m.out, m.scale);
    std::vector<float> turned(exact.size());
    for (int64_t o = 0; o < m.out; ++o)
      for (int64_t i = 0; i < m.in; ++i)
        turned[static_cast<size_t>(i * m.out + o)] = exact[static_cast<size_t>(o * m.in + i)];
    expect_near(got, turned);
  }
}

TEST(AdapterExport, DoraGoesToMlxAndIsRefusedForGguf) {
  TemporaryFolder folder;
  const ModelConfig config = config_of("tiny-llama3");
  PeftAdapter adapter = two_modules(config);
  adapter.config.dora = true;
  for (LoraModule& m : adapter.modules) m.magnitude.assign(static_cast<size_t>(m.out), 1.5f);
  EXPECT_THROW(export_adapter_gguf(adapter, config, folder.file("a.gguf")), Error);
  EXPECT_FALSE(path_exists(folder.file("a.gguf")));
  export_adapter_mlx(adapter, config, folder.file("mlx"), false);
  const auto set = SafetensorsSet::open_file(folder.file("mlx/adapters.safetensors"));
  EXPECT_NE(set.find("model.layers.1.mlp.down_proj.m"), nullptr);
}

TEST(AdapterExport, AnotherBaseIsRefused) {
  TemporaryFolder folder;
  const PeftAdapter adapter = two_modules(config_of("tiny-llama3"));
  const ModelConfig other = config_of("tiny-qwen3");
  EXPECT_THROW(export_adapter_gguf(adapter, other, folder.file("a.gguf")), Error);
  EXPECT_THROW(export_adapter_mlx(adapter, other, folder.file("mlx"), false), Error);
}

}  // namespace
}  // namespace lapidary
