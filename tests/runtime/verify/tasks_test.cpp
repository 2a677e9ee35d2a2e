// Scoring items with models that know some of the answers.
#include "runtime/verify/tasks.h"

#include <gtest/gtest.h>

#include "tests/runtime/verify/fake_scorer.h"

namespace lapidary {
namespace {

// Continues each known text with its answer and then `<turn|>`; says nothing else.
FakeScorer::Rule knows(const std::vector<std::pair<std::string, std::string>>& answers) {
  std::vector<std::pair<std::vector<int32_t>, std::vector<int32_t>>> known;
  for (const auto& [prompt, answer] : answers)
    known.emplace_back(nano_tokenizer().encode(prompt), nano_tokenizer().encode(answer));
  return [known](std::span<const int32_t> history, std::span<float> row) {
    for (const auto& [prompt, answer] : known) {
      if (history.size() < prompt.size() ||
          !std::equal(prompt.begin(), prompt.end(), history.begin()))
        continue;
      const size_t said = history.size() - prompt.size();
      row[static_cast<size_t>(said < answer.size() ? answer[said] : 6)] = 10.0f;
      return;
    }
    row[6] = 10.0f;
  };
}

const std::string kUser = "<bos><|turn>user\n";
const std::string kModel = "<turn|>\n<|turn>model\n";

TEST(ScoreTasks, AsksUnderTheChatTemplateAndComparesExactly) {
  const std::vector<TaskItem> items = parse_tasks(
      R"({"task": "t", "user": "one", "answer": "right"}
{"task": "t", "user": "two", "answer": "right"}
{"task": "t", "user": "three", "answer": "  spaced out "}
{"task": "t", "user": "four", "answer": "Case"}
{"task": "t", "system": "Be good.", "user": "five", "answer": "<|tool_call>call:f{}<tool_call|>"})",
      0);
  FakeScorer model(knows({{kUser + "one" + kModel, "right"},
                          {kUser + "two" + kModel, "right."},
                          {kUser + "three" + kModel, "\nspaced out"},
                          {kUser + "four" + kModel, "case"},
                          {"<bos><|turn>system\nBe good.<turn|>\n<|turn>user\nfive" + kModel,
                           "<|tool_call>call:f{}<tool_call|>"}}));
  EXPECT_EQ(score_tasks(model, items, {}), (std::vector<uint8_t>{1, 0, 1, 0, 1}));
}

TEST(ScoreTasks, GivesUpEightTokensAfterTheAnswersLength) {
  FakeScorer model([](std::span<const int32_t>, std::span<float> row) { row[100] = 1.0f; });
  const std::vector<TaskItem> items =
      parse_tasks(R"({"task": "t", "user": "u", "answer": "no"})", 0);
  EXPECT_EQ(score_tasks(model, items, {}), std::vector<uint8_t>{0});
  const size_t prompt = nano_tokenizer().encode(kUser + "u" + kModel).size();
  const size_t answer = nano_tokenizer().encode("no").size();
  // The last token chosen is not given back to the model.
  EXPECT_EQ(model.seen().back().size(), prompt + answer + 8 - 1);
}

TEST(ScoreTasks, NeedsAChatTemplateForConversationsOnly) {
  FakeScorer model([](std::span<const int32_t>, std::span<float>) {});
  model.metadata_.chat_template.clear();
  EXPECT_THROW(
      score_tasks(model, parse_tasks(R"({"task": "t", "user": "u", "answer": "x"})", 0), {}),
      Error);
  const auto choice =
      parse_tasks(R"({"task": "t", "context": "c", "choices": [" x", " y"], "gold": 0})", 0);
  EXPECT_EQ(score_tasks(model, choice, {}).size(), 1u);
}

TEST(ScoreTasks, PicksTheChoiceWithTheLargestSumOfLogProbabilities) {
  const std::string context = "The sky is";
  for (const int64_t chunk : {1, 2, 100}) {
    FakeScorer model(knows({{"<bos>" + context, " blue today"}}), chunk);
    const auto items = parse_tasks(
        R"({"task": "t", "context": "The sky is", "choices": [" green today", " blue today", " blue cheese"], "gold": 1}
{"task": "t", "context": "The sky is", "choices": [" blue today", " green today"], "gold": 1})",
        0);
    EXPECT_EQ(score_tasks(model, items, {}), (std::vector<uint8_t>{1, 0})) << chunk;
  }
}

TEST(ScoreTasks, ScoresAChoiceThatFusesWithItsContext) {
  FakeScorer model([](std::span<const int32_t>, std::span<float>) {});
  // "th" + "e" is one token of its own, so nothing of the context's encoding may be left.
  const auto items =
      parse_tasks(R"({"task": "t", "context": "th", "choices": ["e", "is"], "gold": 0})", 0);
  EXPECT_NO_THROW(score_tasks(model, items, {}));
}

TEST(Summarize, CountsPerTask) {
  const auto items = parse_tasks(
      R"({"task": "a", "user": "1", "answer": "x"}
{"task": "b", "user": "2", "answer": "x"}
{"task": "a", "user": "3", "answer": "x"})",
      0);
  const auto results = summarize(items, {1, 1, 0});
  EXPECT_EQ(results.size(), 2u);
  EXPECT_EQ(results.at("a").items, 2);
  EXPECT_DOUBLE_EQ(results.at("a").accuracy, 0.5);
  EXPECT_LT(results.at("a").interval[0], 0.5);
  EXPECT_GT(results.at("a").interval[1], 0.5);
}

TEST(CompareTasks, CountsFlipsBothWaysAndPools) {
  const auto items = parse_tasks(
      R"({"task": "a", "user": "1", "answer": "x"}
{"task": "a", "user": "2", "answer": "x"}
{"task": "b", "user": "3", "answer": "x"}
{"task": "b", "user": "4", "answer": "x"})",
      0);
  const auto results = compare_tasks(items, {1, 1, 0, 1}, {0, 1, 1, 1});
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results.at("a").base_only, 1);
  EXPECT_EQ(results.at("b").candidate_only, 1);
  EXPECT_DOUBLE_EQ(results.at("a").difference, -0.5);
  EXPECT_EQ(results.at(kPooledName).items, 4);
  EXPECT_DOUBLE_EQ(results.at(kPooledName).difference, 0.0);
  EXPECT_DOUBLE_EQ(results.at(kPooledName).base, 0.75);
}

}  // namespace
}  // namespace lapidary
