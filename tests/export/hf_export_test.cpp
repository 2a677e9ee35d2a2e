// Out to a Hugging Face folder and back: the description, every tensor and the tokenizer are the
// same.
#include "export/hf_export.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/file.h"
#include "formats/safetensors.h"
#include "quantize/quantize.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

const char* const kFixtures[] = {"nano-e", "tiny-gemma3", "tiny-gemma4-omni", "tiny-llama3",
                                 "tiny-qwen3"};

std::unique_ptr<LapReader> converted(const std::string& folder, const std::string& output) {
  convert(*HfSource::open(folder), output, Events{});
  return LapReader::open(output);
}

std::vector<uint8_t> raw_tensor(const ModelSource& source, size_t index) {
  const SourceTensor& t = source.tensors()[index];
  std::vector<uint8_t> bytes(static_cast<size_t>(t.elements()) * traits(t.code).bits / 8);
  source.read_raw(index, 0, t.rows(), bytes);
  return bytes;
}

void expect_same_tensors(const ModelSource& a, const ModelSource& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    size_t j = 0;
    while (j < b.tensors().size() && b.tensors()[j].name != a.tensors()[i].name) ++j;
    ASSERT_LT(j, b.tensors().size()) << a.tensors()[i].name;
    EXPECT_EQ(a.tensors()[i].shape, b.tensors()[j].shape);
    EXPECT_EQ(raw_tensor(a, i), raw_tensor(b, j)) << a.tensors()[i].name;
  }
}

TEST(HfConfigOut, ReadsBackAsTheSameDescriptionInBothDialects) {
  for (const char* fixture : kFixtures) {
    const ModelConfig config = HfSource::open(data_path(fixture))->metadata().config;
    for (const HfDialect dialect : {HfDialect::kTransformers5, HfDialect::kFlat}) {
      const std::string json = hf_config_json(config, dialect);
      EXPECT_EQ(to_json(model_config_from_hf(json)), to_json(config)) << fixture << "\n" << json;
    }
  }
}

TEST(HfConfigOut, ReadsBackForExpertsAndSharedKeysAndValues) {
  for (const char* name : {"small-dense", "small-moe"}) {
    const std::string folder = shared_path(std::string("checkpoints/") + name);
    LAPIDARY_SKIP_WITHOUT(folder);
    const ModelConfig config = HfSource::open(folder)->metadata().config;
    for (const HfDialect dialect : {HfDialect::kTransformers5, HfDialect::kFlat})
      EXPECT_EQ(to_json(model_config_from_hf(hf_config_json(config, dialect))), to_json(config));
  }
}

TEST(HfConfigOut, RefusesWhatTheFamilyCannotSay) {
  ModelConfig config = HfSource::open(data_path("tiny-gemma3"))->metadata().config;
  config.layers[0].attention = AttentionKind::kGlobal;  // no longer every sixth
  EXPECT_NO_THROW(hf_config_json(config, HfDialect::kTransformers5));
  EXPECT_THROW(hf_config_json(config, HfDialect::kFlat), Error);
  config.family = "mystery";
  EXPECT_THROW(hf_config_json(config, HfDialect::kTransformers5), Error);
}

TEST(HfExport, EveryFamilyComesBackBitByBit) {
  for (const char* fixture : kFixtures) {
    TemporaryFolder folder;
    const auto model = converted(data_path(fixture), folder.file("m.lap"));
    HfExportOptions options;
    options.folder.shard_bytes = 100'000;  // several shards
    const FolderReport report = export_hf(*model, folder.file("hf"), options, Events{});
    EXPECT_GT(report.n_shards, 1);
    for (const FolderReport::Tensor& t : report.tensors) EXPECT_TRUE(t.exact) << t.name;

    const auto back = converted(folder.file("hf"), folder.file("back.lap"));
    EXPECT_EQ(to_json(back->metadata().config), to_json(model->metadata().config));
    EXPECT_EQ(back->tokenizer_json(), model->tokenizer_json());
    EXPECT_EQ(back->metadata().chat_template, model->metadata().chat_template);
    expect_same_tensors(*model, *back);
  }
}

TEST(HfExport, OneShardHasNoIndex) {
  TemporaryFolder folder;
  const auto model = converted(data_path("tiny-qwen3"), folder.file("m.lap"));
  EXPECT_EQ(export_hf(*model, folder.file("hf"), {}, Events{}).n_shards, 1);
  EXPECT_TRUE(path_exists(folder.file("hf/model.safetensors")));
  EXPECT_FALSE(path_exists(folder.file("hf/model.safetensors.index.json")));
}

TEST(HfExport, QuantizedWeightsAreWrittenAsTheirValuesAndSaidSo) {
  TemporaryFolder folder;
  const auto source = HfSource::open(data_path("tiny-qwen3"));
  quantize(*source, folder.file("w4.lap"), {}, Events{});
  const auto model = LapReader::open(folder.file("w4.lap"));
  export_hf(*model, folder.file("hf"), {}, Events{});
  const auto set = SafetensorsSet::open_folder(folder.file("hf"));
  for (size_t i = 0; i < model->tensors().size(); ++i) {
    const SourceTensor& t = model->tensors()[i];
    std::vector<float> values(static_cast<size_t>(t.elements()));
    model->read_rows(i, 0, t.rows(), values);
    const SafetensorsEntry* entry = set.find(t.name);
    ASSERT_NE(entry, nullptr) << t.name;
    const std::vector<float> written = set.read_floats(*entry);
    for (size_t v = 0; v < values.size(); ++v)  // bf16 keeps 8 bits
      ASSERT_NEAR(written[v], values[v], std::abs(values[v]) / 256) << t.name;
  }
  const std::string card = read_text(folder.file("hf/README.md"));
  EXPECT_NE(card.find("quantize to w4"), std::string::npos) << card;
  EXPECT_NE(card.find("dequantized"), std::string::npos);
}

TEST(HfExport, LeavesAnExistingFolderAlone) {
  TemporaryFolder folder;
  const auto model = converted(data_path("tiny-qwen3"), folder.file("m.lap"));
  fs::create_directory(folder.file("hf"));
  EXPECT_THROW(export_hf(*model, folder.file("hf"), {}, Events{}), Error);
  HfExportOptions options;
  options.folder.overwrite = true;
  EXPECT_NO_THROW(export_hf(*model, folder.file("hf"), options, Events{}));
}

TEST(HfExport, InterruptedLeavesNothing) {
  TemporaryFolder folder;
  const auto model = converted(data_path("tiny-qwen3"), folder.file("m.lap"));
  std::atomic<bool> cancelled = true;
  Events events;
  events.cancelled = &cancelled;
  EXPECT_THROW(export_hf(*model, folder.file("hf"), {}, events), Error);
  for (const auto& entry : fs::directory_iterator(folder.path()))
    EXPECT_EQ(entry.path().filename(), "m.lap");
}

}  // namespace
}  // namespace lapidary
