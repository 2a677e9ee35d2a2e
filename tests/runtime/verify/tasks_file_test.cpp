// Task files: both forms of item, and every mistake named by its line.
#include <gtest/gtest.h>

#include "formats/error.h"
#include "runtime/verify/tasks.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

std::string message_of(const std::string& jsonl) {
  try {
    parse_tasks(jsonl, 0);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return e.what();
  }
  return "accepted";
}

TEST(ParseTasks, ReadsBothForms) {
  const auto items = parse_tasks(
      R"({"task": "add", "user": "1 + 1?", "answer": "2", "id": 7}

{"task": "call", "system": "Be brief.", "user": "Hi", "answer": "Hello"}
{"task": "pick", "context": "The sky is", "choices": [" blue", " green"], "gold": 0})",
      0);
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[0].user, "1 + 1?");
  EXPECT_EQ(items[0].gold, -1);
  EXPECT_EQ(items[1].system, "Be brief.");
  EXPECT_EQ(items[2].choices.size(), 2u);
  EXPECT_EQ(items[2].gold, 0);
}

TEST(ParseTasks, NamesTheLineAndTheMistake) {
  const std::string good = R"({"task": "a", "user": "u", "answer": "x"})"
                           "\n";
  const struct {
    const char *line, *expected;
  } cases[] = {
      {"{", "line 2: the item: not valid JSON"},
      {R"({"task": "a", "task": "b"})", "line 2: the item: \"task\" stands twice"},
      {"[1]", "line 2: expected one JSON object"},
      {R"({"user": "u", "answer": "x"})", "line 2: \"task\" is missing"},
      {R"({"task": 3, "user": "u", "answer": "x"})", "line 2: \"task\" is number"},
      {R"({"task": "", "user": "u", "answer": "x"})", "line 2: \"task\" has 0 bytes"},
      {R"({"task": "pooled", "user": "u", "answer": "x"})", "use another name"},
      {R"({"task": "a\u0007", "user": "u", "answer": "x"})", "control character"},
      {R"({"task": "a"})", "line 2: expected either"},
      {R"({"task": "a", "user": "u", "context": "c"})", "line 2: expected either"},
      {R"({"task": "a", "user": "u"})", "line 2: \"answer\" is missing"},
      {R"({"task": "a", "user": "u", "answer": " "})", "line 2: \"answer\" is empty"},
      {R"({"task": "a", "user": "u", "answer": 4})", "line 2: \"answer\" is number"},
      {R"({"task": "a", "user": "u", "answer": "x", "system": []})", "line 2: \"system\" is array"},
      {R"({"task": "a", "context": "c", "gold": 0})", "line 2: \"choices\""},
      {R"({"task": "a", "context": "c", "choices": ["x"], "gold": 0})", "line 2: \"choices\""},
      {R"({"task": "a", "context": "c", "choices": ["x", ""], "gold": 0})", "line 2: \"choices\""},
      {R"({"task": "a", "context": "c", "choices": ["x", "y"]})", "line 2: \"gold\""},
      {R"({"task": "a", "context": "c", "choices": ["x", "y"], "gold": 2})", "line 2: \"gold\""},
      {R"({"task": "a", "context": "c", "choices": ["x", "y"], "gold": -1})", "line 2: \"gold\""},
      {R"({"task": "a", "context": "c", "choices": ["x", "y"], "gold": 99999999999999999999})",
       "line 2: \"gold\""},
  };
  for (const auto& c : cases) {
    const std::string message = message_of(good + c.line);
    EXPECT_NE(message.find(c.expected), std::string::npos) << c.line << " gave: " << message;
  }
  EXPECT_NE(message_of(good + "{\"task\": \"\xFF\"}").find("line 2"), std::string::npos);
  EXPECT_NE(message_of("").find("no items"), std::string::npos);
  EXPECT_NE(message_of("\n \n").find("no items"), std::string::npos);
}

TEST(ParseTasks, KeepsTheFirstItemsOfEachTask) {
  std::string jsonl;
  for (int i = 0; i < 5; ++i)
    for (const char* task : {"a", "b"})
      jsonl += fmt::format("{{\"task\": \"{}\", \"user\": \"{}\", \"answer\": \"x\"}}\n", task, i);
  const auto items = parse_tasks(jsonl, 2);
  ASSERT_EQ(items.size(), 4u);
  EXPECT_EQ(items[3].user, "1");
  EXPECT_THROW(parse_tasks(jsonl, -1), Error);
}

TEST(ParseTasks, ReadsTheBundledSkills) {
  const auto items = read_tasks(data_path("skills.jsonl"), 0);
  EXPECT_EQ(items.size(), 3450u);
}

}  // namespace
}  // namespace lapidary
