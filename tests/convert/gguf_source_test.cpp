// GGUF in: what export wrote comes back bit by bit, integers stay integers, other people's types
// are named as a loss.
#include "convert/gguf_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/gguf_tokenizer.h"
#include "convert/hf_source.h"
#include "convert/sentencepiece_merges.h"
#include "export/gguf_export.h"
#include "export/gguf_tokenizer.h"
#include "formats/file.h"
#include "formats/gguf_set.h"
#include "formats/lap.h"
#include "formats/provenance.h"
#include "formats/tokenizer_tables.h"
#include "runtime/text/tokenizer.h"
#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

const char* const kFixtures[] = {"nano-e", "tiny-gemma3", "tiny-gemma4-omni", "tiny-llama3",
                                 "tiny-qwen3"};

class GgufIn : public ::testing::Test {
 protected:
  std::unique_ptr<LapReader> converted(const ModelSource& source, const std::string& name) {
    hash_ = convert(source, folder_.file(name), Events{}).content_hash;
    return LapReader::open(folder_.file(name));
  }
  // The fixture as .lap, and as GGUF of that type.
  std::unique_ptr<LapReader> exported(const std::string& fixture, GgmlType type) {
    auto model = converted(*HfSource::open(data_path(fixture)), "original.lap");
    export_gguf(*model, gguf_, {.type = type, .n_threads = 2}, Events{});
    return model;
  }

  TemporaryFolder folder_;
  std::string gguf_ = folder_.file("m.gguf");
  std::string hash_;  // of the last converted file
};

std::vector<float> values(const ModelSource& model, size_t index) {
  const SourceTensor& t = model.tensors()[index];
  std::vector<float> out(static_cast<size_t>(t.elements()));
  model.read_rows(index, 0, t.rows(), out);
  return out;
}

TEST_F(GgufIn, Bf16GivesTheSameFileAsTheFolderItCameFrom) {
  for (const char* fixture : kFixtures) {
    const auto original = exported(fixture, GgmlType::kBF16);
    const std::string hash = hash_;
    const auto back = converted(*GgufSource::open(gguf_), "back.lap");
    EXPECT_EQ(hash_, hash) << fixture;
    EXPECT_EQ(back->metadata().config, original->metadata().config) << fixture;
    EXPECT_EQ(back->metadata().chat_template, original->metadata().chat_template) << fixture;
    const int vocab = original->metadata().config.vocab_size;
    EXPECT_EQ(compile_tokenizer(back->tokenizer_json(), vocab),
              compile_tokenizer(original->tokenizer_json(), vocab))
        << fixture;
    EXPECT_TRUE(provenance_from_json(back->metadata().provenance).lossy_steps.empty()) << fixture;
  }
}

TEST_F(GgufIn, F32KeepsEveryValue) {
  for (const char* fixture : kFixtures) {
    const auto original = exported(fixture, GgmlType::kF32);
    const auto back = GgufSource::open(gguf_);
    ASSERT_EQ(back->tensors().size(), original->tensors().size());
    for (size_t i = 0; i < back->tensors().size(); ++i)
      EXPECT_EQ(values(*back, i), values(*original, i)) << fixture << back->tensors()[i].name;
  }
}

TEST_F(GgufIn, Q8_0AndQ4_0KeepTheirIntegersAndScales) {
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0})
    for (const char* fixture : {"tiny-gemma3", "tiny-llama3", "tiny-qwen3"}) {
      exported(fixture, type);
      const auto source = GgufSource::open(gguf_);
      const auto back = converted(*source, "back.lap");
      size_t packed = 0;
      for (size_t i = 0; i < back->tensors().size(); ++i) {
        packed += !traits(back->tensors()[i].code).is_float;
        EXPECT_EQ(values(*back, i), values(*source, i)) << fixture << back->tensors()[i].name;
      }
      EXPECT_GT(packed, 10u) << fixture;
      const Provenance provenance = provenance_from_json(back->metadata().provenance);
      ASSERT_EQ(provenance.lossy_steps.size(), 1u);
      EXPECT_NE(provenance.lossy_steps[0].find("kept exactly"), std::string::npos);

      // Out again: every tensor has the bytes it had.
      export_gguf(*back, folder_.file("again.gguf"), {.type = {}, .n_threads = 2}, Events{});
      const GgufReader before(gguf_), after(folder_.file("again.gguf"));
      std::map<std::string, const GgufTensor*> known;
      for (const GgufTensor& t : after.tensors()) known[t.name] = &t;
      for (const GgufTensor& t : before.tensors()) {
        ASSERT_TRUE(known.contains(t.name)) << t.name;
        EXPECT_EQ(t.type, known[t.name]->type) << fixture << t.name;
        EXPECT_TRUE(std::ranges::equal(before.data(t), after.data(*known[t.name])))
            << fixture << t.name;
      }
    }
}

TEST_F(GgufIn, OtherTypesAreDequantizedAndSaidToBeALoss) {
  for (const GgmlType type :
       {GgmlType::kQ6_K, GgmlType::kQ5_K, GgmlType::kQ4_K, GgmlType::kQ3_K, GgmlType::kIQ4_NL}) {
    const auto original = exported("nano-e", type);
    const auto back = converted(*GgufSource::open(gguf_), "back.lap");
    const Provenance provenance = provenance_from_json(back->metadata().provenance);
    ASSERT_FALSE(provenance.lossy_steps.empty());
    EXPECT_NE(provenance.lossy_steps.back().find("dequantized to bf16"), std::string::npos);
    double error = 0, energy = 0;
    for (size_t i = 0; i < back->tensors().size(); ++i) {
      const std::vector<float> a = values(*original, i), b = values(*back, i);
      for (size_t j = 0; j < a.size(); ++j) {
        error += (a[j] - b[j]) * (a[j] - b[j]);
        energy += a[j] * a[j];
      }
    }
    EXPECT_GT(error, 0);
    EXPECT_LT(error, 0.03 * energy) << traits(type).name;  // 3 bits lose about 2 %
  }
}

TEST_F(GgufIn, PartsOfASplitModelAreFoundFromAnyOfThem) {
  exported("tiny-qwen3", GgmlType::kBF16);
  const GgufReader whole(gguf_);
  const size_t n = whole.tensors().size();
  const auto path = [&](int i) {
    return folder_.file(fmt::format("s-0000{}-of-00003.gguf", i + 1));
  };
  const auto write_part = [&](int i, uint16_t number) {
    std::vector<GgufPair> pairs;
    if (i == 0) pairs = whole.pairs();
    pairs.push_back({"split.no", number});
    pairs.push_back({"split.count", uint16_t{3}});
    pairs.push_back({"split.tensors.count", static_cast<int32_t>(n)});
    const std::vector<GgufTensor> tensors(whole.tensors().begin() + n * i / 3,
                                          whole.tensors().begin() + n * (i + 1) / 3);
    GgufWriter out(path(i), pairs, tensors);
    for (const GgufTensor& t : tensors) out.append(whole.data(t));
    out.commit();
  };
  for (int i = 0; i < 3; ++i) write_part(i, static_cast<uint16_t>(i));
  converted(*GgufSource::open(gguf_), "whole.lap");
  const std::string hash = hash_;
  for (int i = 0; i < 3; ++i) {
    converted(*GgufSource::open(path(i)), "parts.lap");
    EXPECT_EQ(hash_, hash);
  }

  write_part(1, 2);  // calls itself the third
  EXPECT_NE(
      std::string(error_of([&] { GgufSource::open(path(0)); }).what()).find("not part 2 of 3"),
      std::string::npos);
  std::filesystem::remove(path(1));
  EXPECT_EQ(error_of([&] { GgufSource::open(path(0)); }).code(), ErrorCode::kNotFound);
  std::filesystem::rename(path(0), folder_.file("renamed.gguf"));
  EXPECT_NE(std::string(error_of([&] { GgufSource::open(folder_.file("renamed.gguf")); }).what())
                .find("keep the name"),
            std::string::npos);
}

// The released tokenizers, through GGUF and back.
class GgufTokenizerIn : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = shared_path("tokenizers");
    LAPIDARY_SKIP_WITHOUT(folder_);
  }
  std::string released(const std::string& name) {
    const std::string path = out_.file(name + ".json");
    const std::string command =
        fmt::format("xz -dkc {}/{}.tokenizer.json.xz > {}", folder_, name, path);
    EXPECT_EQ(std::system(command.c_str()), 0);
    return read_text(path, uint64_t{64} << 20);
  }
  std::string through_gguf(const std::string& json, int vocab_size, int32_t bos_id) {
    ModelConfig config;
    config.vocab_size = vocab_size;
    config.bos_id = bos_id;
    GgufWriter(out_.file("t.gguf"), gguf_tokenizer(json, config), {}).commit();
    return gguf_tokenizer_json(GgufSet(out_.file("t.gguf")));
  }

  std::string folder_;
  TemporaryFolder out_;
};

TEST_F(GgufTokenizerIn, ByteLevelVocabulariesComeBackAsTheSameTables) {
  for (const auto& [name, vocab] :
       std::map<std::string, int>{{"llama3", 128256}, {"qwen2_5", 151936}}) {
    const std::string json = released(name);
    EXPECT_TRUE(compile_tokenizer(through_gguf(json, vocab, -1), vocab) ==
                compile_tokenizer(json, vocab))
        << name;
  }
}

// Gemma 3 has one added token outside its vocabulary, which GGUF cannot tell from the others.
TEST_F(GgufTokenizerIn, GemmasVocabularyEncodesAsBefore) {
  constexpr int kVocab = 262208;
  const std::string json = released("gemma3"), text = read_text(folder_ + "/trouble.txt");
  const Tokenizer before = Tokenizer::from_json(json, kVocab),
                  after = Tokenizer::from_json(through_gguf(json, kVocab, 2), kVocab);
  const std::vector<int32_t> ids = before.encode(text, {.add_special = true});
  EXPECT_EQ(after.encode(text, {.add_special = true}), ids);
  EXPECT_EQ(after.decode(ids), before.decode(ids));
}

// Gemma 3 as it is found in GGUF: SentencePiece's scores and no merges. Pieces that the trainer was
// given (runs of spaces, tabs and newlines, tags) have the score 0, learned ones 0, -1, -2, ...;
// the first learned one is token 494. The merges of tokenizer.json come out in its very order.
TEST_F(GgufTokenizerIn, SentencePieceScoresBecomeTheReleasedMerges) {
  constexpr int kVocab = 262208;
  const std::string json = released("gemma3"), text = read_text(folder_ + "/trouble.txt");
  ModelConfig config;
  config.vocab_size = kVocab;
  config.bos_id = 2;
  std::vector<GgufPair> pairs = gguf_tokenizer(json, config);
  std::erase_if(pairs, [](const GgufPair& p) { return p.key == "tokenizer.ggml.merges"; });
  const auto value = [&](const char* key) -> GgufValue& {
    return std::find_if(
               pairs.begin(), pairs.end(),
               [&](const GgufPair& p) { return p.key == std::string("tokenizer.ggml.") + key; })
        ->value;
  };
  const auto& tokens = std::get<std::vector<std::string>>(value("tokens"));
  const auto& types = std::get<std::vector<int32_t>>(value("token_type"));
  auto& scores = std::get<std::vector<float>>(value("scores"));
  for (size_t i = 0; i < scores.size(); ++i) {
    std::string rest = tokens[i];
    for (const std::string_view space : {"\n", "\t", "▁"})
      while (rest.starts_with(space)) rest.erase(0, space.size());
    scores[i] = types[i] != 1 || rest.empty() ? 0 : 494 - static_cast<float>(i);
  }
  value("model") = std::string("llama");
  GgufWriter(out_.file("t.gguf"), pairs, {}).commit();
  const std::string rebuilt = gguf_tokenizer_json(GgufSet(out_.file("t.gguf")));
  EXPECT_TRUE(nlohmann::json::parse(rebuilt)["model"]["merges"] ==
              nlohmann::json::parse(json)["model"]["merges"]);
  const Tokenizer before = Tokenizer::from_json(json, kVocab),
                  after = Tokenizer::from_json(rebuilt, kVocab);
  EXPECT_EQ(after.encode(text, {.add_special = true}), before.encode(text, {.add_special = true}));

  value("add_space_prefix") = true;
  GgufWriter(out_.file("t.gguf"), pairs, {}).commit();
  EXPECT_NE(std::string(error_of([&] { gguf_tokenizer_json(GgufSet(out_.file("t.gguf"))); }).what())
                .find("add_space_prefix"),
            std::string::npos);
}

TEST(SentencePieceMerges, AreSortedByScoreThenByTheLongerLeftPart) {
  const std::vector<std::string> tokens{"a", "b", "ab", "é", "abé", "bé", "éa"};
  const std::vector<float> scores{0, 0, -1, 0, -3, -2, -1};
  using Merge = std::pair<std::string_view, std::string_view>;
  EXPECT_EQ(sentencepiece_merges(tokens, scores),
            (std::vector<Merge>{{"a", "b"}, {"é", "a"}, {"b", "é"}, {"ab", "é"}, {"a", "bé"}}));
}

TEST(SentencePieceMerges, DamagedVocabulariesGiveOneLine) {
  EXPECT_THROW(sentencepiece_merges(std::vector<std::string>{"a"}, std::vector<float>{NAN}), Error);
  EXPECT_THROW(
      sentencepiece_merges(std::vector<std::string>{std::string(600, 'a')}, std::vector<float>{0}),
      Error);
}

}  // namespace
}  // namespace lapidary
