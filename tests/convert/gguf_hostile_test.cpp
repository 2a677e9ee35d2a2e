// GGUF models whose keys and tensors contradict each other: one clear line each, and nothing
// written.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

#include "convert/convert.h"
#include "convert/gguf_source.h"
#include "convert/hf_source.h"
#include "export/gguf_export.h"
#include "formats/gguf.h"
#include "formats/lap.h"
#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

class HostileGguf : public ::testing::Test {
 protected:
  void exported(const std::string& fixture, GgmlType type) {
    convert(*HfSource::open(data_path(fixture)), folder_.file("m.lap"), Events{});
    export_gguf(*LapReader::open(folder_.file("m.lap")), gguf_, {.type = type, .n_threads = 2},
                Events{});
  }

  TemporaryFolder folder_;
  std::string gguf_ = folder_.file("m.gguf");
};

// The same files with one pair changed, added (no such key yet) or removed (no value).
void rewrite(const std::string& from, const std::string& to, const std::string& key,
             const std::optional<GgufValue>& value) {
  const GgufReader in(from);
  std::vector<GgufPair> pairs;
  for (const GgufPair& pair : in.pairs())
    if (pair.key != key) pairs.push_back(pair);
  if (value) pairs.push_back({key, *value});
  GgufWriter out(to, pairs, in.tensors());
  for (const GgufTensor& t : in.tensors()) out.append(in.data(t));
  out.commit();
}

TEST_F(HostileGguf, KeysThatContradictAreOneClearLine) {
  exported("tiny-gemma4-omni", GgmlType::kQ4_0);
  struct Case {
    std::string key;
    std::optional<GgufValue> value;
    std::string mentions;
  };
  const std::vector<Case> cases{
      {"general.architecture", std::string("mamba"), "mamba"},
      {"general.architecture", {}, "general.architecture"},
      {"gemma4.block_count", uint32_t{0}, "block_count"},
      {"gemma4.block_count", uint32_t{4000000000u}, "block_count"},
      {"gemma4.block_count", uint32_t{1000}, ""},  // arrays of another length
      {"gemma4.block_count", std::string("5"), "block_count"},
      {"gemma4.embedding_length", uint32_t{1 << 30}, ""},
      {"gemma4.embedding_length", {}, "embedding_length is missing"},
      {"gemma4.attention.head_count", uint32_t{0}, "head_count"},
      {"gemma4.attention.head_count_kv", std::vector<int32_t>{1}, "head_count_kv"},
      {"gemma4.attention.head_count_kv", std::vector<int32_t>(5, -1), "head_count_kv"},
      {"gemma4.attention.key_length", uint32_t{7}, ""},
      {"gemma4.attention.shared_kv_layers", uint32_t{99}, "shared_kv_layers"},
      {"gemma4.attention.layer_norm_rms_epsilon", std::nanf(""), "epsilon"},
      {"gemma4.rope.freq_base", std::string("x"), "freq_base"},
      {"gemma4.rope.scaling.type", std::string("yarn"), "rope.scaling.type"},
      {"gemma4.some_new_multiplier", 2.0f, "some_new_multiplier"},
      {"tokenizer.ggml.model", std::string("t5"), "t5"},
      {"tokenizer.ggml.tokens", std::vector<std::string>{"a"}, ""},
      {"tokenizer.ggml.tokens", {}, "tokens is missing"},
      {"tokenizer.ggml.token_type", std::vector<int32_t>{1, 2}, "2 token types"},
      {"tokenizer.ggml.merges", std::vector<std::string>{"nospace"}, "nospace"},
      {"tokenizer.ggml.merges", std::vector<std::string>{"\xff \xff"}, "UTF-8"},
      {"tokenizer.chat_template", std::string("\xff"), "UTF-8"},
  };
  for (const Case& c : cases) {
    const std::string path = folder_.file("broken.gguf");
    rewrite(gguf_, path, c.key, c.value);
    const Error error =
        error_of([&] { convert(*GgufSource::open(path), folder_.file("x.lap"), Events{}); });
    EXPECT_EQ(error.code(), ErrorCode::kBadData) << c.key << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find(c.mentions), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(folder_.file("x.lap"))) << c.key;
  }
}

TEST_F(HostileGguf, TensorsThatContradictAreOneClearLine) {
  exported("tiny-llama3", GgmlType::kF32);
  const GgufReader in(gguf_);
  const auto failure = [&](auto&& change) {
    std::vector<GgufTensor> tensors;
    std::vector<std::vector<uint8_t>> data;
    for (const GgufTensor& t : in.tensors()) {
      GgufTensor changed = t;
      std::vector<uint8_t> bytes(in.data(t).begin(), in.data(t).end());
      if (!change(changed, bytes)) continue;
      tensors.push_back(changed);
      data.push_back(bytes);
    }
    const std::string path = folder_.file("broken.gguf");
    GgufWriter out(path, in.pairs(), tensors);
    for (const auto& bytes : data) out.append(bytes);
    out.commit();
    const Error error =
        error_of([&] { convert(*GgufSource::open(path), folder_.file("x.lap"), Events{}); });
    EXPECT_EQ(error.code(), ErrorCode::kBadData) << error.what();
    EXPECT_FALSE(std::filesystem::exists(folder_.file("x.lap")));
    return std::string(error.what());
  };
  const auto named = [](const char* name, auto&& act) {
    return [=](GgufTensor& t, std::vector<uint8_t>& bytes) {
      return t.name == name ? act(t, bytes) : true;
    };
  };
  const auto gone = [](GgufTensor&, std::vector<uint8_t>&) { return false; };
  EXPECT_NE(failure(named("blk.1.attn_q.weight", gone)).find("is missing"), std::string::npos);
  EXPECT_NE(failure(named("token_embd.weight", gone)).find("token_embd"), std::string::npos);
  EXPECT_NE(failure(named("blk.1.attn_q.weight",
                          [](GgufTensor& t, std::vector<uint8_t>&) {
                            std::swap(t.shape[0], t.shape[1]);
                            t.shape = {t.shape[0] * t.shape[1] / 64, 64};
                            return true;
                          }))
                .find("shape"),
            std::string::npos);
  EXPECT_NE(failure(named("blk.0.ffn_up.weight",
                          [](GgufTensor& t, std::vector<uint8_t>&) {
                            t.name = "blk.9.ffn_up.weight";
                            return true;
                          }))
                .find("blk.9"),
            std::string::npos);
  EXPECT_NE(failure(named("blk.0.ffn_up.weight",
                          [](GgufTensor&, std::vector<uint8_t>& bytes) {
                            const float nan = std::nanf("");
                            std::memcpy(&bytes[64], &nan, 4);
                            return true;
                          }))
                .find("NaN"),
            std::string::npos);
  EXPECT_NE(failure(named("rope_freqs.weight",
                          [](GgufTensor&, std::vector<uint8_t>& bytes) {
                            const float value = 3.7f;
                            std::memcpy(&bytes[4], &value, 4);
                            return true;
                          }))
                .find("RoPE"),
            std::string::npos);
}

}  // namespace
}  // namespace lapidary
