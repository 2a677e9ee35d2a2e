// Whole GGUF files: every tensor arrives under llama.cpp's name with the weights it had, packed
// integers move without loss, and what GGUF cannot say is one clear line.
#include "export/gguf_export.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>

#include "export/gguf_metadata.h"
#include "formats/dtype.h"
#include "formats/file.h"
#include "formats/ggml_blocks.h"
#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "tests/export/made_models.h"

namespace lapidary {
namespace {

const char* const kFixtures[] = {"nano-e", "tiny-gemma3", "tiny-gemma4-omni", "tiny-llama3",
                                 "tiny-qwen3"};

class GgufExport : public ::testing::Test {
 protected:
  GgufExportReport exported(const LapReader& model, std::optional<GgmlType> type = {}) {
    return export_gguf(model, folder_.file("m.gguf"), {.type = type, .n_threads = 2}, Events{});
  }
  GgufReader read() { return GgufReader(folder_.file("m.gguf")); }

  TemporaryFolder folder_;
};

const GgufTensor& tensor(const GgufReader& reader, const std::string& name) {
  for (const GgufTensor& t : reader.tensors())
    if (t.name == name) return t;
  throw std::runtime_error("no tensor " + name);
}

std::vector<float> values(const GgufReader& reader, const GgufTensor& t) {
  std::vector<float> out(static_cast<size_t>(t.rows() * t.k()));
  decode_blocks(t.type, reader.data(t), out);
  return out;
}

// What the source's tensor looks like in the file: rows moved, one added.
std::vector<float> arranged(const LapReader& model, size_t index, const GgufPlace& place) {
  const std::vector<float> in = values(model, index);
  const size_t k = static_cast<size_t>(model.tensors()[index].k());
  std::vector<float> out(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    const auto row = static_cast<size_t>(source_row(place, static_cast<int64_t>(i / k)));
    out[i] = in[row * k + i % k] + (place.add_one ? 1.0f : 0.0f);
  }
  return out;
}

TEST_F(GgufExport, EveryWeightOfEveryFamilyArrives) {
  for (const char* fixture : kFixtures) {
    const auto model = converted(data_path(fixture), folder_);
    const GgufExportReport report = exported(*model);
    const GgufReader reader = read();
    for (size_t i = 0; i < model->tensors().size(); ++i) {
      const GgufPlace place = gguf_place(model->metadata().config, model->tensors()[i].name);
      const GgufTensor& t = tensor(reader, place.name);
      EXPECT_EQ(t.shape, model->tensors()[i].shape) << place.name;
      EXPECT_TRUE(report.tensors[i].exact) << place.name;
      EXPECT_EQ(t.type, place.matrix ? GgmlType::kBF16 : GgmlType::kF32) << place.name;
      EXPECT_EQ(values(reader, t), arranged(*model, i, place)) << fixture << " " << place.name;
    }
  }
}

TEST_F(GgufExport, PackedIntegersMoveWithoutLoss) {
  // nano-e's per-layer embeddings have one scale per 16 weights; the others' matrices all fit.
  for (const Code code : {Code::kW8x, Code::kW4x})
    for (const char* fixture : {"nano-e", "tiny-llama3"}) {
      const auto model = quantized(data_path(fixture), code, folder_);
      const GgufExportReport report = exported(*model);
      const GgufReader reader = read();
      int n_exact = 0;
      for (size_t i = 0; i < model->tensors().size(); ++i) {
        const GgufPlace place = gguf_place(model->metadata().config, model->tensors()[i].name);
        if (!report.tensors[i].exact || report.tensors[i].code != code) continue;
        ++n_exact;
        EXPECT_EQ(values(reader, tensor(reader, place.name)), arranged(*model, i, place))
            << fixture << " " << place.name;
      }
      EXPECT_GT(n_exact, 15) << fixture;
    }
}

TEST_F(GgufExport, EachCodeGetsItsNearestType) {
  const auto model = quantized(data_path("tiny-llama3"), Code::kW4, folder_);
  exported(*model);
  const GgufReader reader = read();
  // 128 inputs are no whole block of 256.
  EXPECT_EQ(tensor(reader, "blk.0.attn_q.weight").type, GgmlType::kIQ4_NL);
  EXPECT_EQ(fitting_type(GgmlType::kQ4_K, 2816), GgmlType::kQ4_K);
  EXPECT_EQ(fitting_type(GgmlType::kQ5_K, 704), GgmlType::kQ5_0);
  EXPECT_EQ(fitting_type(GgmlType::kQ8_0, 16), GgmlType::kF16);
}

TEST_F(GgufExport, MetadataSayWhatTheConfigSays) {
  const auto model = converted(data_path("nano-e"), folder_);
  exported(*model, GgmlType::kQ8_0);
  const GgufReader reader = read();
  const auto is = [&](const char* key, GgufValue value) {
    const GgufValue* found = reader.find(key);
    return found && *found == value;
  };
  EXPECT_TRUE(is("general.architecture", std::string("gemma4")));
  EXPECT_TRUE(is("general.file_type", uint32_t{7}));
  EXPECT_TRUE(is("gemma4.block_count", uint32_t{10}));
  EXPECT_TRUE(is("gemma4.attention.key_length", uint32_t{128}));
  EXPECT_TRUE(is("gemma4.attention.key_length_swa", uint32_t{64}));
  EXPECT_TRUE(is("gemma4.attention.sliding_window", uint32_t{128}));
  EXPECT_TRUE(is("gemma4.attention.shared_kv_layers", uint32_t{5}));
  EXPECT_TRUE(is("gemma4.embedding_length_per_layer_input", uint32_t{16}));
  EXPECT_TRUE(is("gemma4.final_logit_softcapping", 30.0f));
  EXPECT_TRUE(is("gemma4.feed_forward_length",
                 std::vector<int32_t>{512, 512, 512, 512, 512, 1024, 1024, 1024, 1024, 1024}));
  EXPECT_TRUE(is("tokenizer.ggml.model", std::string("gemma4")));
  EXPECT_TRUE(is("tokenizer.ggml.bos_token_id", uint32_t{2}));
  EXPECT_TRUE(is("tokenizer.ggml.eos_token_id", uint32_t{1}));
  EXPECT_TRUE(is("tokenizer.ggml.eot_token_id", uint32_t{6}));
  EXPECT_TRUE(is("tokenizer.ggml.add_bos_token", true));
  EXPECT_TRUE(is("general.sampling.top_k", int32_t{64}));
  const auto& tokens = std::get<std::vector<std::string>>(*reader.find("tokenizer.ggml.tokens"));
  const auto& types = std::get<std::vector<int32_t>>(*reader.find("tokenizer.ggml.token_type"));
  ASSERT_EQ(tokens.size(), 8192u);
  EXPECT_EQ(tokens[24], "<0x00>");
  EXPECT_EQ((std::vector{types[0], types[12], types[24], types[400]}), (std::vector{3, 4, 6, 1}));
  EXPECT_EQ(std::get<std::vector<std::string>>(*reader.find("tokenizer.ggml.merges")).size(),
            7516u);
}

TEST_F(GgufExport, RopeDivisorsRotateAQuarter) {
  const auto model = converted(data_path("nano-e"), folder_);
  const std::vector<float> divisors = gguf_rope_divisors(model->metadata().config);
  ASSERT_EQ(divisors.size(), 64u);
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(divisors[i], i < 16 ? 1.0f : 1e30f);
}

TEST_F(GgufExport, WhatLlamaCppCannotExpressIsAnError) {
  ModelMetadata metadata = converted(data_path("tiny-qwen3"), folder_)->metadata();
  metadata.config.attention_scale *= 2;
  EXPECT_THROW(gguf_metadata(metadata, "x", GgmlType::kF16), Error);
  metadata = converted(data_path("nano-e"), folder_)->metadata();
  metadata.config.layers[7].kv_source = 2;
  EXPECT_THROW(gguf_metadata(metadata, "x", GgmlType::kF16), Error);
  EXPECT_THROW(gguf_place(metadata.config, "model.layers.3.self_attn.bias"), Error);
  EXPECT_THROW(exported(*converted(data_path("tiny-qwen3"), folder_), GgmlType::kQ2_K), Error);
}

TEST_F(GgufExport, DamagedWeightsAreAnErrorWhetherEncodedOrCopied) {
  const auto model = converted(data_path("tiny-llama3"), folder_);
  const LapTensor& t = *model->find("model.layers.1.mlp.down_proj.weight");
  std::fstream file(folder_.file("m.lap"), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(t.offset + t.bytes - 2));
  file.write("\x80\x7f", 2);  // infinity in bf16
  file.close();
  for (const GgmlType type : {GgmlType::kBF16, GgmlType::kQ8_0})
    EXPECT_THROW(exported(*model, type), Error);
  EXPECT_FALSE(path_exists(folder_.file("m.gguf")));
}

}  // namespace
}  // namespace lapidary
