// Compiling and opening tables: what is refused, and that hostile bytes stay inside.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "formats/error.h"
#include "formats/split_regex.h"
#include "formats/tokenizer_tables.h"
#include "tests/runtime/text/tokenizer_fixture.h"

namespace lapidary {
namespace {

using nlohmann::json;

// A byte-fallback-free tokenizer of six tokens, to be broken in one place each.
json tiny() {
  return json::parse(R"({
    "added_tokens": [{"id": 5, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed",
                      "invert": false},
    "post_processor": null,
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "unk_token": "?", "vocab": {"?": 0, "a": 1, "b": 2, "ab": 3, "c": 4},
              "merges": ["a b"]}})");
}

std::string refusal(const json& source, int64_t vocab_size = 6) {
  try {
    compile_tokenizer(source.dump(), vocab_size);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return e.what();
  }
  return "";
}

TEST(CompileTokenizer, AcceptsTheSmallOne) {
  EXPECT_EQ(refusal(tiny()), "");
  const Tokenizer t = Tokenizer::from_json(tiny().dump(), 6);
  EXPECT_EQ(t.encode("abc <s> z"), (Ids{3, 4, 5, 0}));
}

TEST(CompileTokenizer, NamesWhatItRefuses) {
  const auto broken = [](const char* pointer, json value) {
    json source = tiny();
    source[json::json_pointer(pointer)] = std::move(value);
    return refusal(source);
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(contains(broken("/model/type", "Unigram"), "Unigram"));
  EXPECT_TRUE(contains(broken("/model/dropout", 0.1), "dropout"));
  EXPECT_TRUE(contains(broken("/model/end_of_word_suffix", "</w>"), "end_of_word_suffix"));
  EXPECT_TRUE(contains(broken("/model/unk_token", "missing"), "unk_token 'missing'"));
  EXPECT_TRUE(contains(broken("/model/vocab/d", 4), "share id 4"));
  EXPECT_TRUE(contains(broken("/model/vocab/d", 6), "another model"));
  EXPECT_TRUE(contains(broken("/model/vocab/d", -1), "integer"));
  EXPECT_TRUE(contains(broken("/model/vocab/d", 1.5), "integer"));
  EXPECT_TRUE(contains(broken("/model/merges/0", "a c"), "merge 0"));
  EXPECT_TRUE(contains(broken("/model/merges/0", 7), "merge 0"));
  EXPECT_TRUE(contains(broken("/added_tokens/0/id", 1), "'<s>' has id 1"));
  EXPECT_TRUE(contains(broken("/added_tokens/0/content", ""), "0 bytes"));
  EXPECT_TRUE(contains(broken("/normalizer", {{"type", "BertNormalizer"}}), "BertNormalizer"));
  EXPECT_TRUE(contains(broken("/pre_tokenizer", {{"type", "Metaspace"}}), "Metaspace"));
  EXPECT_TRUE(contains(broken("/pre_tokenizer/behavior", "Sideways"), "Sideways"));
  EXPECT_TRUE(contains(broken("/pre_tokenizer/pattern", {{"Regex", "a("}}), "regex 'a('"));
  EXPECT_TRUE(contains(broken("/decoder", nullptr), "decoder 'null'"));
  EXPECT_TRUE(contains(broken("/decoder", {{"type", "WordPiece"}}), "WordPiece"));
  EXPECT_TRUE(contains(broken("/post_processor", {{"type", "BertProcessing"}}), "BertProcessing"));
  EXPECT_TRUE(contains(refusal(tiny(), 5), "another model"));
}

TEST(CompileTokenizer, SurvivesDeepNesting) {
  std::string source(1'000'000, '[');
  EXPECT_THROW(compile_tokenizer(source, 10), Error);
  json deep = {{"type", "NFC"}};
  for (int i = 0; i < 20; ++i) deep = {{"type", "Sequence"}, {"normalizers", json::array({deep})}};
  json source_json = tiny();
  source_json["normalizer"] = deep;
  EXPECT_NE(refusal(source_json).find("deeper"), std::string::npos);
}

TEST(TokenizerTables, RejectTruncationAtEveryByte) {
  const auto tables = compile_tokenizer(tiny().dump(), 6);
  for (size_t n = 0; n < tables.size(); ++n) {
    const std::vector<uint8_t> cut(tables.begin(), tables.begin() + static_cast<long>(n));
    EXPECT_THROW(Tokenizer{std::span<const uint8_t>(cut)}, Error) << n;
  }
}

TEST(TokenizerTables, SurviveBitFlips) {
  // Half of a small file is header and indices: most flips must be noticed, none may crash.
  const auto tables = compile_tokenizer(tiny().dump(), 6);
  std::mt19937 random(3);
  int opened = 0;
  for (int round = 0; round < 2000; ++round) {
    auto flipped = tables;
    for (uint32_t flips = 1 + random() % 3; flips > 0; --flips)
      flipped[random() % flipped.size()] ^= static_cast<uint8_t>(1u << random() % 8);
    try {
      const Tokenizer t{std::span<const uint8_t>(flipped)};
      t.decode(t.encode("ab c <s> é"));
      ++opened;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData);
    }
  }
  EXPECT_GT(opened, 0);
  EXPECT_LT(opened, 2000);
}

TEST(SplitRegex, RefusesWhatTheDialectsReadDifferently) {
  for (const char* pattern : {"a{2}+", "a{2}?", "[a[bc]]", "[a&&b]", "(?m)a", "(?<n>a)", "(*F)",
                              "[]", "a\\", "\\p{L", "\\X", "[\\W]"})
    EXPECT_THROW(SplitRegex{pattern}, Error) << pattern;
}

TEST(SplitRegex, StopsAtItsLimits) {
  // Catastrophic backtracking ends in an Error.
  const SplitRegex regex("(?:a+)+[bc]");
  EXPECT_THROW(regex.find_all(std::string(500, 'a') + "d"), Error);
}

}  // namespace
}  // namespace lapidary
