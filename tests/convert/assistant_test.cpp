// Gemma 4's assistants: every tensor arrives, and what cannot be one is refused by name.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "formats/safetensors.h"
#include "quantize/quantize.h"
#include "tests/assistant_folder.h"
#include "tests/formats/error_of.h"

namespace lapidary {
namespace {

TEST(ConvertAssistant, EveryTensorArrives) {
  const TemporaryFolder folder;
  const std::string from = data_path("tiny-assistant"), path = folder.file("a.lap");
  const ConvertReport report = convert(*HfSource::open(from), path, {});
  EXPECT_TRUE(report.skipped.empty());
  const auto lap = LapReader::open(path);
  const SafetensorsSet weights = SafetensorsSet::open_folder(from);
  EXPECT_EQ(lap->index().size(), weights.entries().size());
  for (const SafetensorsEntry& entry : weights.entries()) {
    const LapTensor* tensor = lap->find(entry.name);
    ASSERT_TRUE(tensor) << entry.name;
    EXPECT_EQ(tensor->shape, entry.shape);
    std::vector<float> got(static_cast<size_t>(entry.elements()));
    lap->read_rows(static_cast<size_t>(tensor - lap->index().data()), 0,
                   entry.elements() / entry.shape.back(), got);
    EXPECT_EQ(got, weights.read_floats(entry)) << entry.name;
  }
  const ModelConfig& c = lap->metadata().config;
  EXPECT_EQ(c.assistant, (AssistantConfig{192, 64, 8}));
  EXPECT_EQ(c.family, "gemma4");
  EXPECT_EQ(c.logit_softcap, 0.0f);
  ASSERT_EQ(c.n_layers(), 4);
  for (int l = 0; l < 4; ++l) EXPECT_FALSE(c.owns_kv(l));
  EXPECT_EQ(c.layers[3].head_dim, 128);
  EXPECT_EQ(model_config_from_json(to_json(c)), c);
}

TEST(ConvertAssistant, DefaultsAreTransformers) {
  auto json = nlohmann::json::parse(read_text(data_path("tiny-assistant/config.json")));
  for (const char* key : {"backbone_hidden_size", "num_centroids", "centroid_intermediate_top_k"})
    json.erase(key);
  json["text_config"]["num_kv_shared_layers"] = 0;  // transformers then says all
  EXPECT_EQ(model_config_from_hf(json.dump()).assistant, (AssistantConfig{1536, 2048, 32}));
  json["model_type"] = "gemma4_unified_assistant";
  json["text_config"]["model_type"] = "gemma4_unified_text";
  json.erase("use_ordered_embeddings");
  EXPECT_EQ(model_config_from_hf(json.dump()).assistant, (AssistantConfig{1536, 0, 0}));
}

TEST(ConvertAssistant, PlainRoundingWorksAndCalibrationIsRefused) {
  const TemporaryFolder folder;
  QuantizeOptions options;
  options.weights = Code::kW4;
  const auto source = HfSource::open(data_path("tiny-assistant"));
  quantize(*source, folder.file("w4.lap"), options, {});
  const auto lap = LapReader::open(folder.file("w4.lap"));
  EXPECT_EQ(lap->find("pre_projection.weight")->code, Code::kW4);
  EXPECT_EQ(lap->find("masked_embedding.centroids.weight")->code, Code::kW4);
  EXPECT_EQ(lap->find("masked_embedding.token_ordering")->code, Code::kF32);
  options.calibration.emplace();
  const Error error = error_of([&] { quantize(*source, folder.file("no.lap"), options, {}); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find("calibrated alone"), std::string::npos);
}

TEST(ConvertAssistant, WhatCannotBeOneIsRefusedInALine) {
  const AssistantChange all_dropped = without_clusters();
  const struct {
    AssistantChange change;
    const char* message;
  } cases[] = {
      {{{}, {{"hidden_size_per_layer_input", "16"}}, {}, {}}, "no per-layer embeddings"},
      {{{}, {{"enable_moe_block", "true"}}, {}, {}}, "no experts"},
      {{{}, {{"use_double_wide_mlp", "true"}}, {}, {}}, "layers are alike"},
      {{{}, {{"num_kv_shared_layers", "2"}}, {}, {}}, "all layers of an assistant"},
      {{{{"num_centroids", "63"}}, {}, {}, {}}, "n_centroids is 63, expected a divisor of 8192"},
      {{{{"num_centroids", "33554432"}}, {}, {}, {}}, "num_centroids"},
      {{{{"num_centroids", "32"}}, {}, {}, {}}, "shape [64, 64], expected [32, 64]"},
      {{{{"centroid_intermediate_top_k", "65"}}, {}, {}, {}}, "n_centroids_used is 65"},
      {{{{"backbone_hidden_size", "0"}}, {}, {}, {}}, "backbone_hidden_size"},
      {{{{"backbone_hidden_size", "200"}}, {}, {}, {}}, "post_projection.weight has shape"},
      {{{{"use_ordered_embeddings", "false"}}, {}, {}, {}}, "does not belong to the model"},
      {{{{"surprise", "1"}}, {}, {}, {}}, "'surprise'"},
      {{{}, {{"surprise", "1"}}, {}, {}}, "'surprise'"},
      {{{{"text_config", "\"none\""}}, {}, {}, {}}, "text_config"},
      {{{}, {}, all_dropped.dropped, {}}, "masked_embedding.centroids.weight is missing"},
      {{{}, {}, {"pre_projection.weight"}, {}}, "pre_projection.weight is missing"},
      {{{}, {}, {}, {8192}}, "token 8192"},
      {{{}, {}, {}, {-1}}, "token -1"},
      {{{}, {}, {}, {int64_t{1} << 40}}, "token_ordering"},
      {{{}, {}, {}, {5, 5}}, "token 5 is in the clusters twice"},
  };
  for (const auto& c : cases) {
    const TemporaryFolder folder;
    const Error error = error_of([&] {
      convert(*HfSource::open(changed_assistant(folder, c.change)), folder.file("a.lap"), {});
    });
    EXPECT_EQ(error.code(), ErrorCode::kBadData) << c.message;
    EXPECT_NE(std::string(error.what()).find(c.message), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    EXPECT_FALSE(std::filesystem::exists(folder.file("a.lap")));
  }
}

}  // namespace
}  // namespace lapidary
