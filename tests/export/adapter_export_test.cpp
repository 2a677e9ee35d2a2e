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
#include "formats/peft.h"
#include "formats/safetensors.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

auto source_of(const char* fixture) { return HfSource::open(data_path(fixture)); }

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
  const auto source = source_of("tiny-llama3");
  const ModelConfig& config = source->metadata().config;
  const PeftAdapter adapter = two_modules(config);
  export_adapter_gguf(adapter, *source, folder.file("a.gguf"));
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
  const auto source = source_of("tiny-llama3");
  const PeftAdapter adapter = two_modules(source->metadata().config);
  export_adapter_mlx(adapter, *source, folder.file("mlx"), false);
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
  const auto source = source_of("tiny-llama3");
  PeftAdapter adapter = two_modules(source->metadata().config);
  adapter.config.dora = true;
  for (LoraModule& m : adapter.modules) m.magnitude.assign(static_cast<size_t>(m.out), 1.5f);
  EXPECT_THROW(export_adapter_gguf(adapter, *source, folder.file("a.gguf")), Error);
  EXPECT_FALSE(path_exists(folder.file("a.gguf")));
  export_adapter_mlx(adapter, *source, folder.file("mlx"), false);
  const auto set = SafetensorsSet::open_file(folder.file("mlx/adapters.safetensors"));
  EXPECT_NE(set.find("model.layers.1.mlp.down_proj.m"), nullptr);
}

TEST(AdapterExport, AnotherBaseIsRefused) {
  TemporaryFolder folder;
  const PeftAdapter adapter = two_modules(source_of("tiny-llama3")->metadata().config);
  const auto other = source_of("tiny-qwen3");
  EXPECT_THROW(export_adapter_gguf(adapter, *other, folder.file("a.gguf")), Error);
  EXPECT_THROW(export_adapter_mlx(adapter, *other, folder.file("mlx"), false), Error);
}

// tiny-moe's adapter: stacks of 8 experts at rank 2 beside dense matrices at rank 4.
PeftAdapter adapter_on_experts() { return read_peft(data_path("tiny-moe/reference/lora_final")); }

// Values [first, first + n) of a long run of floats.
std::vector<float> part(const std::vector<float>& all, int64_t first, int64_t n) {
  return {all.begin() + first, all.begin() + first + n};
}

// scale B A of one expert.
std::vector<float> delta_of(const LoraModule& m, int64_t e) {
  return delta(part(m.a, e * m.rank * m.in, m.rank * m.in),
               part(m.b, e * m.out * m.rank, m.out * m.rank), m.rank, m.in, m.out, m.scale);
}

// llama.cpp adds (alpha / rank) B A x to the experts' product, which it has multiplied by the
// router's scale already in down_proj's case.
TEST(AdapterExport, GgufHoldsTheDeltasOfExperts) {
  TemporaryFolder folder;
  const auto source = source_of("tiny-moe");
  const PeftAdapter adapter = adapter_on_experts();
  export_adapter_gguf(adapter, *source, folder.file("a.gguf"));
  const GgufReader reader(folder.file("a.gguf"));
  const float alpha = std::get<float>(*reader.find("adapter.lora.alpha"));
  int64_t n_stacks = 0;
  for (const LoraModule& m : adapter.modules) {
    if (m.n_experts == 0) continue;
    ++n_stacks;
    const std::string layer = m.module.substr(0, m.module.find("experts"));
    const bool is_down = m.module.ends_with("down_proj");
    const std::string name = gguf_place(source->metadata().config, m.module).name;
    EXPECT_EQ(name.substr(name.find("ffn")),
              is_down ? "ffn_down_exps.weight" : "ffn_gate_up_exps.weight");
    for (const GgufTensor& t : reader.tensors())
      if (t.name == name + ".lora_b") {
        EXPECT_EQ(t.shape, (std::vector<int64_t>{8, m.out, 2}));
      }
    std::vector<float> scales(8, 1.0f);
    for (size_t i = 0; is_down && i < source->tensors().size(); ++i)
      if (source->tensors()[i].name == layer + "router.per_expert_scale")
        source->read_rows(i, 0, 1, scales);
    EXPECT_EQ(is_down, scales != std::vector<float>(8, 1.0f));
    const std::vector<float> a = floats(reader, name + ".lora_a"),
                             b = floats(reader, name + ".lora_b");
    for (int64_t e = 0; e < 8; ++e) {
      const std::vector<float> got = delta(part(a, e * m.rank * m.in, m.rank * m.in),
                                           part(b, e * m.out * m.rank, m.out * m.rank), m.rank,
                                           m.in, m.out, alpha / static_cast<float>(m.rank));
      std::vector<float> wanted = delta_of(m, e);
      for (float& v : wanted) v *= scales[static_cast<size_t>(e)];
      expect_near(got, wanted);
    }
  }
  EXPECT_EQ(n_stacks, 8);
}

// mlx-lm's switch layers compute (x A^T) B^T, and have gate and up apart.
TEST(AdapterExport, MlxHoldsTheDeltasOfExperts) {
  TemporaryFolder folder;
  const PeftAdapter adapter = adapter_on_experts();
  export_adapter_mlx(adapter, *source_of("tiny-moe"), folder.file("mlx"), false);
  const Json json = Json::parse(read_text(folder.file("mlx/adapter_config.json")));
  const float scale = json["lora_parameters"]["scale"].get<float>();
  EXPECT_EQ(json["lora_parameters"]["rank"], 4);  // of all, rank 2 filled up with zeros
  const auto set = SafetensorsSet::open_file(folder.file("mlx/adapters.safetensors"));
  const auto check = [&](const LoraModule& m, const char* name, int64_t first, int64_t rows) {
    const std::string key = m.module.substr(0, m.module.rfind('.')) + ".switch_glu." + name;
    const SafetensorsEntry *a = set.find(key + ".lora_a"), *b = set.find(key + ".lora_b");
    ASSERT_TRUE(a && b) << key;
    ASSERT_EQ(a->shape, (std::vector<int64_t>{8, 4, m.in}));
    ASSERT_EQ(b->shape, (std::vector<int64_t>{8, rows, 4}));
    for (int64_t e = 0; e < 8; ++e)
      expect_near(delta(part(set.read_floats(*a), e * 4 * m.in, 4 * m.in),
                        part(set.read_floats(*b), e * rows * 4, rows * 4), 4, m.in, rows, scale),
                  part(delta_of(m, e), first * m.in, rows * m.in));
  };
  for (const LoraModule& m : adapter.modules) {
    if (m.n_experts == 0) continue;
    if (m.module.ends_with("down_proj")) {
      check(m, "down_proj", 0, m.out);
      continue;
    }
    check(m, "gate_proj", 0, m.out / 2);
    check(m, "up_proj", m.out / 2, m.out / 2);
  }
}

}  // namespace
}  // namespace lapidary
