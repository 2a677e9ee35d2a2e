// config.json to ModelConfig: the dialects agree, the numbers are those of the published models,
// and whatever would change the arithmetic is refused by name.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "convert/family.h"
#include "convert/hf_source.h"
#include "formats/error.h"
#include "formats/file.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

std::string config_text(const std::string& model, const std::string& file = "config.json") {
  return read_text(data_path(model + "/" + file));
}
Json config_json(const std::string& model) { return Json::parse(config_text(model)); }

// The message of the Error that reading `config` throws; empty when it is accepted.
std::string refusal(const Json& config) {
  try {
    model_config_from_hf(config.dump());
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return e.what();
  }
  return {};
}

TEST(HfConfig, BothDialectsOfEachFamilyDescribeTheSameModel) {
  for (const char* model : {"nano-e", "tiny-gemma3", "tiny-llama3", "tiny-qwen3"}) {
    const ModelConfig now = model_config_from_hf(config_text(model));
    const ModelConfig old = model_config_from_hf(config_text(model, "config.flat.json"));
    EXPECT_EQ(to_json(now), to_json(old)) << model;
    EXPECT_EQ(now, old) << model;
  }
}

TEST(HfConfig, LargerFixturesAgreeInBothDialects) {
  for (const char* model : {"small-dense", "small-moe"}) {
    const std::string folder = shared_path(std::string("checkpoints/") + model);
    LAPIDARY_SKIP_WITHOUT(folder);
    EXPECT_EQ(to_json(model_config_from_hf(read_text(folder + "/config.json"))),
              to_json(model_config_from_hf(read_text(folder + "/config.flat.json"))))
        << model;
  }
}

TEST(HfConfig, NanoEIsReadFieldByField) {
  const ModelConfig c = model_config_from_hf(config_text("nano-e"));
  EXPECT_EQ(c.family, "gemma4");
  EXPECT_EQ(c.d_model, 192);
  EXPECT_EQ(c.n_layers(), 10);
  EXPECT_EQ(c.ple_width, 16);
  EXPECT_EQ(c.logit_softcap, 30.0f);
  EXPECT_TRUE(c.tied_head && c.sandwich_norms && c.qk_norm && c.v_norm && c.layer_scalar);
  EXPECT_FALSE(c.norm_unit_offset);
  EXPECT_EQ(c.eos_ids, std::vector<int32_t>{1});
  EXPECT_EQ(c.bos_id, 2);
  EXPECT_EQ(c.layers[3].window, 128);
  EXPECT_EQ(c.layers[3].head_dim, 64);
  EXPECT_EQ(c.layers[3].d_ff, 512);
  EXPECT_EQ(c.layers[4].attention, AttentionKind::kGlobal);
  EXPECT_EQ(c.layers[4].head_dim, 128);
  EXPECT_EQ(c.layers[4].rope.kind, RopeKind::kProportional);
  EXPECT_EQ(c.layers[4].rope.rotated_fraction, 0.25);
  EXPECT_EQ(c.layers[5].kv_source, 3);
  EXPECT_EQ(c.layers[8].kv_source, 3);
  EXPECT_EQ(c.layers[9].kv_source, 4);
  EXPECT_EQ(c.layers[5].d_ff, 1024);
}

TEST(HfConfig, CompositeLayoutReadsTheTextModelAndTheUpperStopTokens) {
  Json config = config_json("tiny-gemma4-omni");
  config["eos_token_id"] = {1, 106};
  const ModelConfig c = model_config_from_hf(config.dump());
  EXPECT_EQ(c.d_model, 64);
  EXPECT_EQ(c.eos_ids, (std::vector<int32_t>{1, 106}));
  config["tie_word_embeddings"] = false;
  EXPECT_NE(refusal(config).find("tie_word_embeddings"), std::string::npos);
}

TEST(HfConfig, MissingLayerTypesFollowThePattern) {
  Json config = config_json("tiny-gemma3");
  const ModelConfig listed = model_config_from_hf(config.dump());
  config.erase("layer_types");
  EXPECT_EQ(model_config_from_hf(config.dump()), listed);
  config["_sliding_window_pattern"] = 2;
  EXPECT_EQ(model_config_from_hf(config.dump()).layers[1].attention, AttentionKind::kGlobal);
}

TEST(HfConfig, Gemma4ForcesTheLastLayerToBeGlobal) {
  Json config = config_json("nano-e");
  config["layer_types"][9] = "sliding_attention";
  EXPECT_EQ(model_config_from_hf(config.dump()).layers[9].attention, AttentionKind::kGlobal);
}

TEST(HfConfig, Llama3ScalingIsReadInBothSpellings) {
  Json config = Json::parse(config_text("tiny-llama3", "config.flat.json"));
  const RopeConfig rope = model_config_from_hf(config.dump()).layers[0].rope;
  EXPECT_EQ(rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(rope.factor, 8.0);
  EXPECT_EQ(rope.original_context, 64);
  config["rope_scaling"]["type"] = config["rope_scaling"]["rope_type"];
  config["rope_scaling"].erase("rope_type");
  EXPECT_EQ(model_config_from_hf(config.dump()).layers[0].rope, rope);
}

// Each case changes one key of a good config; the message must name the key.
struct BadKey {
  const char* model;
  const char* key;
  const char* value;  // JSON; empty: the key is removed
};
class HfConfigRefuses : public testing::TestWithParam<BadKey> {};

TEST_P(HfConfigRefuses, WhatWouldChangeTheArithmetic) {
  Json config = config_json(GetParam().model);
  ASSERT_EQ(refusal(config), "");
  const std::string value = GetParam().value;
  if (value.empty()) {
    config.erase(GetParam().key);
  } else {
    config[GetParam().key] = Json::parse(value);
  }
  const std::string message = refusal(config);
  EXPECT_NE(message.find(GetParam().key), std::string::npos) << "message: " << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Keys, HfConfigRefuses,
    testing::Values(
        BadKey{"nano-e", "attention_bias", "true"},
        BadKey{"nano-e", "hidden_activation", "\"relu\""},
        BadKey{"nano-e", "use_bidirectional_attention", "\"all\""},
        BadKey{"nano-e", "use_bidirectional_attention", "true"},
        BadKey{"nano-e", "attn_logit_softcapping", "50.0"},
        BadKey{"nano-e", "quantization_config", R"({"quant_method": "gptq"})"},
        BadKey{"nano-e", "a_new_kind_of_norm", "true"}, BadKey{"nano-e", "a_new_scale", "0"},
        BadKey{"nano-e", "rope_parameters", ""},
        BadKey{"nano-e", "rope_parameters", "{\"full_attention\": {\"rope_theta\": 1e6}}"},
        BadKey{"nano-e", "sliding_window", "null"}, BadKey{"nano-e", "hidden_size", "-192"},
        BadKey{"nano-e", "hidden_size", "1e30"}, BadKey{"nano-e", "hidden_size", "\"192\""},
        BadKey{"nano-e", "num_hidden_layers", "16000000"},
        BadKey{"nano-e", "num_kv_shared_layers", "10"},
        BadKey{"nano-e", "num_kv_shared_layers", "9"},
        BadKey{"nano-e", "vocab_size_per_layer_input", "4096"},
        BadKey{"nano-e", "layer_types", R"(["full_attention"])"},
        BadKey{"nano-e", "per_layer_config", R"({"10": {"head_dim": 128}})"},
        BadKey{"nano-e", "per_layer_config", R"({"4": {"sliding_window": 64}})"},
        BadKey{"nano-e", "model_type", "\"mamba\""}, BadKey{"nano-e", "rms_norm_eps", ""},
        BadKey{"nano-e", "eos_token_id", "[1, \"x\"]"},
        BadKey{"tiny-gemma3", "attn_logit_softcapping", "50"},
        BadKey{"tiny-gemma3", "use_bidirectional_attention", "true"},
        BadKey{"tiny-gemma3", "query_pre_attn_scalar", ""},
        BadKey{"tiny-llama3", "mlp_bias", "true"}, BadKey{"tiny-llama3", "attention_bias", "true"},
        BadKey{"tiny-llama3", "hidden_act", "\"gelu\""},
        BadKey{"tiny-llama3", "rope_parameters", R"({"rope_type": "yarn", "rope_theta": 1e4})"},
        BadKey{"tiny-llama3", "rope_parameters",
               R"({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})"},
        BadKey{"tiny-llama3", "rope_parameters",
               R"({"rope_type": "default", "rope_theta": 1e4, "mscale": 0.5})"},
        BadKey{"tiny-qwen3", "use_sliding_window", "true"},
        BadKey{"tiny-qwen3", "layer_types",
               R"(["full_attention", "sliding_attention", "full_attention"])"}));

TEST(HfConfig, RefusesTextThatIsNoJsonObject) {
  for (const char* text : {"", "[]", "{", "null", "{\"model_type\": 3}", "{}", "\xff\xfe"})
    EXPECT_THROW(model_config_from_hf(text), Error) << text;
  EXPECT_THROW(model_config_from_hf(std::string(100000, '[')), Error);
}

TEST(HfConfig, ExpectedTensorsOfTheTrueShapesCountThePublishedParameters) {
  // Text parameters that E2B uses, as published.
  Json e2b = config_json("nano-e");
  const Json true_sizes = {{"hidden_size", 1536},        {"intermediate_size", 6144},
                           {"num_hidden_layers", 35},    {"num_attention_heads", 8},
                           {"num_kv_shared_layers", 20}, {"head_dim", 256},
                           {"global_head_dim", 512},     {"hidden_size_per_layer_input", 256},
                           {"vocab_size", 262144},       {"vocab_size_per_layer_input", 262144}};
  e2b.update(true_sizes);
  e2b.erase("per_layer_config");
  e2b["layer_types"] = Json::array();
  for (int i = 0; i < 35; ++i)
    e2b["layer_types"].push_back(i % 5 == 4 ? "full_attention" : "sliding_attention");
  int64_t n_parameters = 0;
  const ModelConfig config = model_config_from_hf(e2b.dump());
  for (const auto& [name, shape] : find_family("gemma4_text").expected_tensors(config).shapes) {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    n_parameters += n;
  }
  EXPECT_EQ(n_parameters, 4628569379);
}

}  // namespace
}  // namespace lapidary
