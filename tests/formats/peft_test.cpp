// PEFT folders: what peft 0.21 wrote is read, what we write reads back, what we cannot honour is
// refused by name.
#include "formats/peft.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/safetensors.h"
#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// The layers of nano-e as far as check_fits() looks (config.flat.json of the fixture).
ModelConfig nano_e() {
  ModelConfig c;
  c.d_model = 192;
  c.ple_width = 16;
  for (int i = 0; i < 10; ++i) {
    LayerConfig l;
    const bool global = i % 5 == 4;
    l.attention = global ? AttentionKind::kGlobal : AttentionKind::kSliding;
    l.head_dim = global ? 128 : 64;
    l.n_heads = 4;
    l.n_kv_heads = 1;
    l.kv_source = i < 5 ? i : (global ? 4 : 3);
    l.d_ff = i < 5 ? 512 : 1024;
    c.layers.push_back(l);
  }
  return c;
}

PeftAdapter small_adapter(bool dora) {
  PeftAdapter adapter;
  adapter.config.rank = 2;
  adapter.config.alpha = 3;
  adapter.config.rslora = true;
  adapter.config.dora = dora;
  adapter.config.target_modules = {"q_proj", "o_proj"};
  adapter.config.rank_pattern = {{"layers.1.self_attn.o_proj", 1}};
  adapter.config.alpha_pattern = {{"o_proj", 5}};
  adapter.config.base_model_name = "tiny";
  adapter.base_hash = "0123456789abcdef0123456789abcdef";
  adapter.base_source_hash = "ff";
  const float root2 = std::sqrt(2.0f);
  adapter.modules = {
      {"model.layers.0.self_attn.q_proj", 2, 3, 1, 3 / root2, {1, 2, 3, 4, 5, 6}, {7, 8}, {}},
      {"model.layers.1.self_attn.o_proj", 1, 2, 2, 5, {0.5f, 0.25f}, {-1, 1}, {}}};
  if (dora) {
    adapter.modules[0].magnitude = {2};
    adapter.modules[1].magnitude = {3, 4};
  }
  return adapter;
}

void expect_equal(const PeftAdapter& a, const PeftAdapter& b) {
  EXPECT_EQ(a.base_hash, b.base_hash);
  EXPECT_EQ(a.base_source_hash, b.base_source_hash);
  EXPECT_EQ(a.config.target_modules, b.config.target_modules);
  EXPECT_EQ(a.config.rank_pattern, b.config.rank_pattern);
  EXPECT_EQ(a.config.alpha_pattern, b.config.alpha_pattern);
  EXPECT_EQ(a.config.base_prefix, b.config.base_prefix);
  ASSERT_EQ(a.modules.size(), b.modules.size());
  for (size_t i = 0; i < a.modules.size(); ++i) {
    const LoraModule &x = a.modules[i], &y = b.modules[i];
    EXPECT_EQ(x.module, y.module);
    EXPECT_EQ(x.rank, y.rank);
    EXPECT_EQ(x.in, y.in);
    EXPECT_EQ(x.out, y.out);
    EXPECT_FLOAT_EQ(x.scale, y.scale) << x.module;
    EXPECT_EQ(x.a, y.a);
    EXPECT_EQ(x.b, y.b);
    EXPECT_EQ(x.magnitude, y.magnitude);
  }
}

TEST(Peft, ReadsWhatPeftWrote) {
  for (const char* name : {"lora_init", "lora_final"}) {
    const PeftAdapter adapter = read_peft(data_path("nano-e/reference/") + name);
    // 7 targets in 10 layers, without k_proj and v_proj of the 5 layers that share K and V.
    EXPECT_EQ(adapter.modules.size(), 60u);
    EXPECT_EQ(adapter.config.rank, 8);
    EXPECT_EQ(adapter.config.target_modules.size(), 7u);
    EXPECT_EQ(adapter.base_hash, "");
    for (const LoraModule& m : adapter.modules) EXPECT_EQ(m.scale, 2.0f) << m.module;  // 16 / 8
    check_fits(adapter, nano_e());
  }
}

TEST(Peft, ReadsBackWhatItWrote) {
  for (const bool dora : {false, true})
    for (const char* prefix : {"model.", "model.language_model."}) {
      TemporaryFolder folder;
      PeftAdapter adapter = small_adapter(dora);
      adapter.config.base_prefix = prefix;
      write_peft(folder.path(), adapter);
      expect_equal(read_peft(folder.path()), adapter);
    }
}

// Both stacks of experts, whose parts PEFT nests and flattens in two different ways.
TEST(Peft, WritesExpertsAsPeftDoes) {
  const std::string theirs = data_path("tiny-moe/reference/lora_final");
  TemporaryFolder folder;
  const PeftAdapter adapter = read_peft(theirs);
  EXPECT_EQ(adapter.modules.front().module, "model.layers.0.experts.down_proj");
  EXPECT_EQ(adapter.modules.front().n_experts, 8);
  EXPECT_EQ(adapter.modules.front().rank, 2);
  EXPECT_EQ(adapter.modules.front().scale, 3.0f);  // alpha 6 by its pattern
  write_peft(folder.path(), adapter);
  const auto a = SafetensorsSet::open_file(theirs + "/adapter_model.safetensors");
  const auto b = SafetensorsSet::open_file(folder.file("adapter_model.safetensors"));
  ASSERT_EQ(a.entries().size(), b.entries().size());
  for (const SafetensorsEntry& entry : a.entries()) {
    const SafetensorsEntry* own = b.find(entry.name);
    ASSERT_NE(own, nullptr) << entry.name;
    EXPECT_EQ(own->shape, entry.shape) << entry.name;
    EXPECT_EQ(b.read_floats(*own), a.read_floats(entry)) << entry.name;
  }
}

TEST(Peft, KeepsARegularExpressionOfTargetsAsOneString) {
  TemporaryFolder folder;
  PeftAdapter adapter = small_adapter(false);
  adapter.config.target_modules = {".*language_model.*\\.(q|o)_proj"};
  write_peft(folder.path(), adapter);
  EXPECT_TRUE(
      Json::parse(read_text(folder.file("adapter_config.json")))["target_modules"].is_string());
  expect_equal(read_peft(folder.path()), adapter);
}

TEST(Peft, UnderstandsTheNamesOfOtherWriters) {
  for (const char* prefix : {"base_model.model.model.", "base_model.model.model.language_model.",
                             "base_model.model.language_model.model.", "model."})
    for (const char* infix : {"", ".default"}) {
      TemporaryFolder folder;
      write_peft(folder.path(), small_adapter(false));  // for its config
      const std::vector<float> ones(6, 1.0f);
      const auto* data = reinterpret_cast<const uint8_t*>(ones.data());
      const std::string key = std::string(prefix) + "layers.0.self_attn.q_proj.lora_";
      write_safetensors(folder.file("adapter_model.safetensors"),
                        {{key + "A" + infix + ".weight", DType::kF32, {2, 3}, {data, 24}},
                         {key + "B" + infix + ".weight", DType::kF32, {1, 2}, {data, 8}}});
      const PeftAdapter adapter = read_peft(folder.path());
      ASSERT_EQ(adapter.modules.size(), 1u);
      EXPECT_EQ(adapter.modules[0].module, "model.layers.0.self_attn.q_proj");
    }
}

class PeftRefusals : public testing::Test {
 protected:
  PeftRefusals() { write_peft(folder_.path(), small_adapter(false)); }
  // What read_peft() says after `key` of the config became `value`.
  Error after_setting(const std::string& key, const Json& value) {
    const std::string path = folder_.file("adapter_config.json");
    const std::string original = read_text(path);
    Json config = Json::parse(original);
    config[key] = value;
    write_text_atomically(path, config.dump());
    const Error e = error_of([&] { read_peft(folder_.path()); });
    write_text_atomically(path, original);
    return e;
  }
  Error after_writing(const std::vector<SafetensorsOutput>& tensors) {
    write_safetensors(folder_.file("adapter_model.safetensors"), tensors);
    return error_of([&] { read_peft(folder_.path()); });
  }
  TemporaryFolder folder_;
};

TEST_F(PeftRefusals, NameTheOptionThatChangesTheMeaning) {
  struct Case {
    const char *key, *json, *said;
  };
  const Case cases[] = {{"peft_type", R"("IA3")", "peft_type"},
                        {"bias", R"("lora_only")", "bias"},
                        {"modules_to_save", R"(["lm_head"])", "modules_to_save"},
                        {"fan_in_fan_out", "true", "fan_in_fan_out"},
                        {"use_qalora", "true", "use_qalora"},
                        {"lora_bias", "true", "lora_bias"},
                        {"layer_replication", "[[0, 1]]", "layer_replication"},
                        {"target_parameters", R"(["lm_head.weight"])", "target_parameters"},
                        {"trainable_token_indices", "[1]", "trainable_token_indices"},
                        {"init_lora_weights", R"("pissa_niter_4")", "init_lora_weights"},
                        {"an_option_of_next_year", "0.5", "an_option_of_next_year"},
                        {"r", "0", "r is 0"},
                        {"r", "3", "expected rank 3"},  // contradicts the tensors
                        {"lora_alpha", R"("8")", "lora_alpha"},
                        {"lora_alpha", "1e99", "lora_alpha"},
                        {"use_dora", "true", "lora_magnitude_vector is missing"},
                        {"use_rslora", "1", "use_rslora"},
                        {"target_modules", "4", "target_modules"},
                        {"target_modules", R"(["q_proj", 4])", "target_modules"},
                        {"rank_pattern", R"(["q_proj"])", "an object"},
                        {"rank_pattern", R"({"q_proj": -1})", "rank_pattern.q_proj is -1"},
                        {"rank_pattern", R"({"(q_proj": 1})", "not a regular expression"},
                        {"rank_pattern", R"({"((([a-w_.0-9]+)+)+)+[x-z]": 1})", "too many steps"}};
  for (const auto& [key, json, said] : cases) {
    const Error e = after_setting(key, Json::parse(json));
    EXPECT_EQ(e.code(), ErrorCode::kBadData) << key << ": " << e.what();
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << said << " in: " << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
  }
  read_peft(folder_.path());  // still good without the change
}

TEST_F(PeftRefusals, AcceptOptionsThatAreOff) {
  const std::string path = folder_.file("adapter_config.json");
  Json config = Json::parse(read_text(path));
  config["an_option_of_next_year"] = false;
  config["kasa_config"] = nullptr;
  config["init_lora_weights"] = "gaussian";
  write_text_atomically(path, config.dump());
  read_peft(folder_.path());
}

TEST_F(PeftRefusals, SeeMissingDoubledMisshapenAndDivergedTensors) {
  const std::vector<float> values(6, 1.0f);
  std::vector<float> nan = values;
  nan[3] = std::nanf("");
  const auto bytes = [](const std::vector<float>& v, size_t n) {
    return std::span(reinterpret_cast<const uint8_t*>(v.data()), n * 4);
  };
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj";
  const SafetensorsOutput a{q + ".lora_A.weight", DType::kF32, {2, 3}, bytes(values, 6)};
  const SafetensorsOutput b{q + ".lora_B.weight", DType::kF32, {1, 2}, bytes(values, 2)};
  SafetensorsOutput wrong_rank = b, other_name = a, no_linear = a, not_a_matrix = b, diverged = a,
                    integers = a;
  wrong_rank.shape = {2, 1};
  other_name.name = q + ".lora_A.default.weight";
  no_linear.name = q + ".lora_embedding_A";
  not_a_matrix.shape = {2};
  diverged.bytes = bytes(nan, 6);
  integers.dtype = DType::kI32;
  for (const std::vector<SafetensorsOutput>& tensors :
       std::vector<std::vector<SafetensorsOutput>>{{},
                                                   {a},
                                                   {b},
                                                   {a, wrong_rank},
                                                   {other_name, a, b},
                                                   {a, b, no_linear},
                                                   {a, not_a_matrix},
                                                   {diverged, b},
                                                   {integers, b}}) {
    const Error e = after_writing(tensors);
    EXPECT_EQ(e.code(), ErrorCode::kBadData) << e.what();
  }
}

TEST_F(PeftRefusals, SayWhatIsMissing) {
  fs::rename(folder_.file("adapter_model.safetensors"), folder_.file("adapter_model.bin"));
  const Error e = error_of([&] { read_peft(folder_.path()); });
  EXPECT_EQ(e.code(), ErrorCode::kNotFound);
  EXPECT_NE(std::string(e.what()).find("pickle"), std::string::npos);
  EXPECT_EQ(error_of([&] { read_peft(folder_.file("nowhere")); }).code(), ErrorCode::kNotFound);
}

TEST(PeftFit, AcceptsEveryAdaptableMatrixOfTheModel) {
  PeftAdapter adapter;
  adapter.modules = {{"model.per_layer_model_projection", 1, 192, 160, 1, {}, {}, {}},
                     {"model.layers.4.self_attn.o_proj", 1, 512, 192, 1, {}, {}, {}},
                     {"model.layers.9.mlp.down_proj", 1, 1024, 192, 1, {}, {}, {}},
                     {"model.layers.2.per_layer_input_gate", 1, 192, 16, 1, {}, {}, {}},
                     {"model.layers.2.per_layer_projection", 1, 16, 192, 1, {}, {}, {}}};
  check_fits(adapter, nano_e());
}

TEST(PeftFit, RefusesModulesThatWouldDoNothing) {
  for (const char* module :
       {"model.layers.7.self_attn.k_proj", "model.layers.9.self_attn.v_proj",
        "model.layers.10.self_attn.q_proj", "model.layers.01.self_attn.k_proj",
        "model.layers.-1.self_attn.k_proj", "model.layers.99999999999.self_attn.k_proj",
        "model.layers.1", "model.layers.", "model.layers.1.router.proj", "lm_head",
        "model.layers.1.self_attn.k_projx"}) {
    PeftAdapter adapter;
    adapter.modules = {{module, 1, 192, 64, 1, {}, {}, {}}};
    EXPECT_EQ(error_of([&] { check_fits(adapter, nano_e()); }).code(), ErrorCode::kBadData)
        << module;
  }
  PeftAdapter transposed;
  transposed.modules = {{"model.layers.0.self_attn.q_proj", 1, 256, 192, 1, {}, {}, {}}};
  EXPECT_EQ(error_of([&] { check_fits(transposed, nano_e()); }).code(), ErrorCode::kBadData);
}

}  // namespace
}  // namespace lapidary
