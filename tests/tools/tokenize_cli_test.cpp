// tokenize through the binary: a .lap, a tokenizer.json and a GGUF file of one model give the same
// ids, whether the GGUF file holds weights or, like llama.cpp's vocabularies, none.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "formats/gguf.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

// Words, digits, accents, a script without spaces, an emoji, code, special tokens, runs of spaces.
constexpr const char* kText =
    "Hello there,  1234 naïve\tcafés! 日本語 🙂\n\n  if (x != 0) { return \"é\"; "
    "}<|turn>user";

class Tokenize : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ok({"convert", data_path(GetParam()), "-o", lap_, "--quiet"});
    ok({"export", lap_, "--to", "gguf", "--type", "q8_0", "-o", gguf_, "--quiet"});
  }

  static std::string ok(const std::vector<std::string>& arguments) {
    const Outcome o = lapidary_command(arguments);
    EXPECT_EQ(o.status, 0) << o.err;
    return o.out;
  }
  static nlohmann::json ids(const std::string& source, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"tokenize", source, "-p", kText, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return nlohmann::json::parse(ok(arguments))["ids"];
  }
  // The file without weights, and of its keys those that begin with `prefix`.
  void keep_keys(const std::string& prefix, const std::string& to) const {
    const GgufReader in(gguf_);
    std::vector<GgufPair> pairs;
    for (const GgufPair& pair : in.pairs())
      if (pair.key.starts_with(prefix)) pairs.push_back(pair);
    GgufWriter(to, pairs, {}).commit();
  }

  TemporaryFolder folder_;
  std::string lap_ = folder_.file("m.lap"), gguf_ = folder_.file("m.gguf");
};

TEST_P(Tokenize, GivesTheSameIdsForEveryFormOfAVocabulary) {
  const nlohmann::json expected = ids(lap_);
  EXPECT_GT(expected.size(), 20u);
  EXPECT_EQ(ids(data_path(GetParam()) + "/tokenizer.json"), expected);
  EXPECT_EQ(ids(gguf_), expected);
  EXPECT_EQ(ids(gguf_, {"--bos"}), ids(lap_, {"--bos"}));
  const std::string vocabulary = folder_.file("vocabulary.gguf");
  keep_keys("tokenizer.", vocabulary);
  EXPECT_EQ(ids(vocabulary), expected);

  const std::string pieces = ok({"tokenize", gguf_, "-p", kText});
  EXPECT_NE(pieces.find(std::to_string(expected.size()) + " tokens\n"), std::string::npos);
}

TEST_P(Tokenize, SaysWhatAGgufFileLacks) {
  const std::string bare = folder_.file("bare.gguf"), cut = folder_.file("cut.gguf");
  keep_keys("general.", bare);
  expect_error(lapidary_command({"tokenize", bare, "-p", "x"}), 65, "has no vocabulary");
  std::ofstream(cut, std::ios::binary) << read_text(gguf_).substr(0, 5000);
  expect_error(lapidary_command({"tokenize", cut, "-p", "x"}), 65, "cut.gguf");
  expect_error(lapidary_command({"tokenize", folder_.file("gone.gguf"), "-p", "x"}), 66, "gone");
  const std::string messages = folder_.file("messages.json");
  std::ofstream(messages) << R"([{"role": "user", "content": "x"}])";
  expect_error(lapidary_command({"tokenize", gguf_, "--chat", messages}), 64, "a chat template");
}

// Byte fallback (gemma4), and bytes as letters (gpt2).
INSTANTIATE_TEST_SUITE_P(Kinds, Tokenize, ::testing::Values("tiny-gemma4-omni", "tiny-llama3"));

}  // namespace
}  // namespace lapidary
