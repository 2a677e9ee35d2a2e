// The built-in calibration text: broad, free of repetition and of the text that verdicts read; and
// the ways in which a user's file can be one.
#include "quantize/calibration_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "convert/hf_source.h"
#include "runtime/verify/builtin_text.h"
#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

std::vector<std::string> words(std::string_view text) {
  std::istringstream in{std::string(text)};
  return {std::istream_iterator<std::string>(in), std::istream_iterator<std::string>()};
}

// Every run of `n` words.
std::vector<std::string> shingles(std::string_view text, size_t n) {
  const std::vector<std::string> all = words(text);
  std::vector<std::string> out;
  for (size_t i = 0; i + n <= all.size(); ++i) {
    std::string run;
    for (size_t j = 0; j < n; ++j) run += all[i + j] + ' ';
    out.push_back(run);
  }
  return out;
}

std::string joined(bool with_chats) {
  std::string text;
  for (const CalibrationDocument& d : builtin_calibration_documents())
    if (with_chats || !d.chat) text += std::string(d.text) + "\n";
  return text;
}

struct NanoE {
  NanoE() : source(HfSource::open(data_path("nano-e"))) {}
  Tokenizer tokenizer() const {
    return Tokenizer::from_json(source->tokenizer_json(), source->metadata().config.vocab_size);
  }
  std::unique_ptr<ModelSource> source;
};

size_t count(const std::vector<int32_t>& ids, int32_t id) {
  return static_cast<size_t>(std::count(ids.begin(), ids.end(), id));
}

TEST(BuiltinCalibrationText, IsOfUsefulSizeAndEndsInWholeDocuments) {
  const std::string all = joined(true);
  EXPECT_GT(all.size(), 60'000u);
  EXPECT_LT(all.size(), 120'000u);
  for (const CalibrationDocument& d : builtin_calibration_documents()) {
    EXPECT_EQ(d.text.find("====="), std::string_view::npos) << d.text;
    EXPECT_FALSE(d.text.empty());
  }
}

TEST(BuiltinCalibrationText, SharesNoPassageWithTheTextOfVerdicts) {
  const std::vector<std::string> mine = shingles(joined(true), 5);
  const std::set<std::string> known(mine.begin(), mine.end());
  for (const std::string& run : shingles(builtin_text(), 5))
    EXPECT_FALSE(known.contains(run)) << run;
}

TEST(BuiltinCalibrationText, RepeatsNoPassage) {
  std::set<std::string> seen;
  size_t repeated = 0;
  for (const std::string& run : shingles(joined(false), 8)) repeated += !seen.insert(run).second;
  EXPECT_LT(repeated, 20u);  // rows of rules, #include lines and the like
}

TEST(BuiltinCalibrationText, AnyQuarterHoldsChatsCodeAndForeignScripts) {
  const std::vector<CalibrationDocument> documents = builtin_calibration_documents();
  const size_t quarter = documents.size() / 4;
  for (size_t q = 0; q < 4; ++q) {
    size_t chats = 0, code = 0, foreign = 0;
    for (size_t i = q * quarter; i < (q + 1) * quarter; ++i) {
      const std::string_view text = documents[i].text;
      chats += documents[i].chat;
      code += !documents[i].chat && text.find("\n  ") != std::string_view::npos;
      const auto high = std::count_if(text.begin(), text.end(), [](char c) { return c & 0x80; });
      foreign += high * 20 > static_cast<int64_t>(text.size());
    }
    EXPECT_GE(chats, 4u) << q;
    EXPECT_GE(code, 2u) << q;
    EXPECT_GE(foreign, 2u) << q;
  }
}

TEST(BuiltinCalibrationText, RendersConversationsThroughTheModelsTemplate) {
  const NanoE nano;
  const Tokenizer tokenizer = nano.tokenizer();
  const std::vector<int32_t> ids = builtin_calibration_tokens(tokenizer, nano.source->metadata());
  EXPECT_GT(ids.size(), 15'000u);
  EXPECT_EQ(count(ids, *tokenizer.id_of("<bos>")), 0u);
  EXPECT_GT(count(ids, *tokenizer.id_of("<|turn>")), 90u);
  EXPECT_EQ(count(ids, *tokenizer.id_of("<|turn>")), count(ids, *tokenizer.id_of("<turn|>")));
  EXPECT_GE(count(ids, *tokenizer.id_of("<|tool_call>")), 12u);
}

TEST(BuiltinCalibrationText, IsPlainWhereThereIsNoTemplateOrItRefuses) {
  const NanoE nano;
  const Tokenizer tokenizer = nano.tokenizer();
  ModelMetadata metadata = nano.source->metadata();
  metadata.chat_template.clear();
  const std::vector<int32_t> plain = builtin_calibration_tokens(tokenizer, metadata);
  EXPECT_EQ(count(plain, *tokenizer.id_of("<|turn>")), 0u);
  EXPECT_NE(tokenizer.decode(plain).find("user: What is the difference"), std::string::npos);
  metadata.chat_template = "{{ raise_exception('no') }}";
  EXPECT_EQ(builtin_calibration_tokens(tokenizer, metadata), plain);
}

TEST(CalibrationTokens, TakePlainTextAsItIs) {
  const NanoE nano;
  const Tokenizer tokenizer = nano.tokenizer();
  for (const std::string text : {"One short line.", "{\"no\": \"chat\"}\nand more"})
    EXPECT_EQ(calibration_tokens(tokenizer, nano.source->metadata(), text), tokenizer.encode(text));
}

TEST(CalibrationTokens, TakeLinesOfConversations) {
  const NanoE nano;
  const Tokenizer tokenizer = nano.tokenizer();
  const std::string line = R"({"messages": [{"role": "user", "content": "Hi"}]})";
  const std::vector<int32_t> once =
      calibration_tokens(tokenizer, nano.source->metadata(), line + "\n\n");
  EXPECT_EQ(tokenizer.decode(once), "<|turn>user\nHi<turn|>\n");
  EXPECT_EQ(calibration_tokens(tokenizer, nano.source->metadata(), line + "\n" + line).size(),
            2 * once.size());
}

TEST(CalibrationTokens, RefuseEmptyTextAndBrokenLines) {
  const NanoE nano;
  const Tokenizer tokenizer = nano.tokenizer();
  const auto failure = [&](const std::string& text) {
    return error_of([&] { calibration_tokens(tokenizer, nano.source->metadata(), text); });
  };
  const auto message = [&](const std::string& text) { return std::string(failure(text).what()); };
  const std::string line = R"({"messages": [{"role": "user", "content": "Hi"}]})";
  EXPECT_EQ(failure("").code(), ErrorCode::kBadData);
  EXPECT_NE(message("").find("0 tokens"), std::string::npos);
  EXPECT_NE(message(line + "\n{\"messages\"").find("line 2"), std::string::npos);
  EXPECT_NE(message(line + "\n{\"messages\": 3}").find("line 2"), std::string::npos);
  EXPECT_NE(message(line + "\n[]").find("line 2"), std::string::npos);
}

}  // namespace
}  // namespace lapidary
