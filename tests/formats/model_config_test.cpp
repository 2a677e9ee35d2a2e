// A config survives JSON exactly, and every contradiction is refused by the name of its field.
#include "formats/model_config.h"

#include <functional>
#include <limits>

#include "formats/error.h"
#include "formats/file.h"
#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

// Every field away from its default, every kind of layer.
ModelConfig all_features() {
  return model_config_from_json(read_text(source_path("tests/fuzz/seeds/model_config.json")));
}

TEST(ModelConfig, SurvivesJsonExactly) {
  ModelConfig config = all_features();
  config.norm_eps = 1.00000011e-5f;  // needs all digits of a float
  config.layers[1].rope.theta = 123456.789012345678;
  const std::string text = to_json(config);
  EXPECT_EQ(model_config_from_json(text), config);
  EXPECT_EQ(to_json(model_config_from_json(text)), text);
}

TEST(ModelConfig, ReadsEveryFieldOfTheSeed) {
  const ModelConfig config = all_features();
  EXPECT_EQ(config.family, "gemma4");
  EXPECT_EQ(config.eos_ids, (std::vector<int32_t>{1, 106}));
  EXPECT_EQ(config.logit_softcap, 30.0f);
  EXPECT_TRUE(config.sandwich_norms && config.qk_norm && config.v_norm && config.layer_scalar);
  ASSERT_EQ(config.n_layers(), 3);
  EXPECT_EQ(config.layers[0].window, 128);
  EXPECT_EQ(config.layers[1].rope.kind, RopeKind::kProportional);
  EXPECT_EQ(config.layers[1].rope.rotated_fraction, 0.25);
  EXPECT_TRUE(config.layers[1].k_eq_v);
  EXPECT_EQ(config.layers[1].d_expert, 32);
  EXPECT_EQ(config.layers[2].rope.original_context, 8192);
  EXPECT_TRUE(config.owns_kv(1));
  EXPECT_FALSE(config.owns_kv(2));
}

ModelConfig assistant_config() {
  return model_config_from_json(read_text(source_path("tests/fuzz/seeds/assistant_config.json")));
}

TEST(ModelConfig, AssistantsOwnNoKvAndSurviveJson) {
  const ModelConfig config = assistant_config();
  EXPECT_EQ(config.assistant, (AssistantConfig{192, 16, 4}));
  EXPECT_FALSE(config.owns_kv(0) || config.owns_kv(1));
  EXPECT_EQ(model_config_from_json(to_json(config)), config);
  EXPECT_EQ(to_json(all_features()).find("assistant"), std::string::npos);
}

TEST(ModelConfig, AssistantsThatCannotBeAreRefused) {
  const auto refusal = [](const std::function<void(ModelConfig&)>& spoil) {
    ModelConfig config = assistant_config();
    spoil(config);
    return std::string(error_of([&] { validate(config); }).what());
  };
  const auto has = [&](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refusal([](auto& c) { c.assistant.target_width = -1; }), "target_width");
  has(refusal([](auto& c) { c.assistant.target_width = 0; }), "n_centroids is 16");
  has(refusal([](auto& c) { c.assistant.n_centroids = 15; }), "a divisor of 512");
  has(refusal([](auto& c) { c.assistant.n_centroids = 1024; }), "n_centroids");
  has(refusal([](auto& c) { c.assistant.n_centroids_used = 17; }), "n_centroids_used");
  has(refusal([](auto& c) { c.assistant.n_centroids_used = 0; }), "n_centroids_used");
  has(refusal([](auto& c) { c.ple_width = 16; }), "ple_width");
  has(refusal([](auto& c) { c.layers[1].kv_source = 0; }), "layer 1.kv_source");
  has(refusal([](auto& c) {
        c.layers[0].n_experts = 2;
        c.layers[0].n_experts_used = c.layers[0].d_expert = 1;
      }),
      "n_experts");
}

TEST(ModelConfig, RefusesContradictionsByTheNameOfTheField) {
  struct Case {
    const char* field;
    std::function<void(ModelConfig&)> spoil;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Case cases[] = {
      {"d_model", [](auto& c) { c.d_model = 0; }},
      {"vocab_size", [](auto& c) { c.vocab_size = (1 << 24) + 1; }},
      {"max_context", [](auto& c) { c.max_context = -1; }},
      {"layers", [](auto& c) { c.layers.clear(); }},
      {"layers", [](auto& c) { c.layers.resize(1025, c.layers[0]); }},
      {"ple_width", [](auto& c) { c.ple_width = -16; }},
      {"norm_eps", [&](auto& c) { c.norm_eps = nan; }},
      {"attention_scale", [](auto& c) { c.attention_scale = 0; }},
      {"embedding_scale", [](auto& c) { c.embedding_scale = -1; }},
      {"logit_softcap", [](auto& c) { c.logit_softcap = -30; }},
      {"bos_id", [](auto& c) { c.bos_id = 512; }},
      {"pad_id", [](auto& c) { c.pad_id = -2; }},
      {"eos_ids", [](auto& c) { c.eos_ids.push_back(-1); }},
      {"head_dim", [](auto& c) { c.layers[0].head_dim = 63; }},
      {"head_dim", [](auto& c) { c.layers[0].head_dim = 1026; }},
      {"n_heads", [](auto& c) { c.layers[0].n_heads = 3; }},
      {"n_kv_heads", [](auto& c) { c.layers[0].n_kv_heads = 0; }},
      {"window", [](auto& c) { c.layers[0].window = 0; }},
      {"window", [](auto& c) { c.layers[1].window = 128; }},
      {"d_ff", [](auto& c) { c.layers[0].d_ff = 0; }},
      {"theta", [](auto& c) { c.layers[0].rope.theta = -1; }},
      {"factor", [](auto& c) { c.layers[0].rope.factor = 0; }},
      {"rotated_fraction", [](auto& c) { c.layers[1].rope.rotated_fraction = 1.5; }},
      {"rope", [](auto& c) { c.layers[0].rope.high_freq_factor = 5; }},
      {"high_freq_factor", [](auto& c) { c.layers[2].rope.high_freq_factor = 1; }},
      {"original_context", [](auto& c) { c.layers[2].rope.original_context = 0; }},
      {"kv_source", [](auto& c) { c.layers[0].kv_source = 1; }},   // a later layer
      {"kv_source", [](auto& c) { c.layers[2].kv_source = 1; }},   // of another kind
      {"kv_source", [](auto& c) { c.layers[2].n_kv_heads = 1; }},  // of another shape
      {"kv_source",
       [](auto& c) {
         c.layers.push_back(c.layers[2]);
         c.layers[3].kv_source = 2;  // which itself reads layer 0
       }},
      {"n_experts", [](auto& c) { c.layers[1].n_experts = -1; }},
      {"n_experts_used", [](auto& c) { c.layers[1].n_experts_used = 9; }},
      {"n_experts_used", [](auto& c) { c.layers[0].n_experts_used = 2; }},
      {"d_expert", [](auto& c) { c.layers[1].d_expert = 1 << 22; }},  // 8 of them are too wide
  };
  validate(all_features());
  for (const Case& bad : cases) {
    ModelConfig config = all_features();
    bad.spoil(config);
    const Error e = error_of([&] { validate(config); });
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    EXPECT_NE(std::string(e.what()).find(bad.field), std::string::npos)
        << bad.field << " expected in: " << e.what();
  }
}

TEST(ModelConfig, RefusesWrongTypesUnknownFieldsAndDeepNesting) {
  const std::string good = to_json(all_features());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::string texts[] = {
      "",
      "[]",
      "3",
      "{",
      good + "}",
      "\xff",
      with("\"d_model\":64", "\"d_model\":\"64\""),
      with("\"d_model\":64", "\"d_model\":64.5"),
      with("\"d_model\":64", "\"d_model\":18446744073709551615"),
      with("\"d_model\":64", "\"d_model\":4294967360"),  // 64 when cut to 32 bits
      with("\"d_model\":64", "\"d_model\":64,\"d_model\":64"),
      with("\"d_model\":64", "\"d_model\":64,\"novel_arithmetic\":1"),
      with("\"qk_norm\":true", "\"qk_norm\":1"),
      with("\"norm_eps\":", "\"norm_eps\":null,\"x\":"),
      with("\"sliding\"", "\"Sliding\""),
      with("\"sliding\"", "\"\""),
      with("\"gelu_tanh\"", "7"),
      with("\"kv_source\":0,", ""),
      with("\"eos_ids\":[1", "\"eos_ids\":[1.5"),
      with("\"eos_ids\":[1,106]", "\"eos_ids\":1"),
      with("\"layers\":[{", "\"layers\":[[],{"),
      std::string(100000, '['),
      "{\"layers\":" + std::string(100000, '[') + std::string(100000, ']') + "}",
  };
  for (const std::string& text : texts) {
    const Error e = error_of([&] { model_config_from_json(text); });
    EXPECT_EQ(e.code(), ErrorCode::kBadData) << text.substr(0, 100);
    EXPECT_LT(std::string(e.what()).size(), 400u);
  }
}

}  // namespace
}  // namespace lapidary
