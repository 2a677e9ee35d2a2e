// Built-in items: repeatable, distinct, and their answers right when worked out another way.
#include "runtime/verify/builtin_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "formats/error.h"
#include "runtime/verify/builtin_text.h"

namespace lapidary {
namespace {

std::map<std::string, std::vector<TaskItem>> by_task(const BuiltinTaskOptions& options) {
  std::map<std::string, std::vector<TaskItem>> tasks;
  for (TaskItem& item : builtin_tasks(options)) tasks[item.task].push_back(std::move(item));
  return tasks;
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (size_t end; (end = text.find(separator, at)) != std::string::npos;
       at = end + separator.size())
    parts.push_back(text.substr(at, end - at));
  parts.push_back(text.substr(at));
  return parts;
}

TEST(BuiltinTasks, RepeatForASeedAndDifferForAnother) {
  const auto once = builtin_tasks({.seed = 5, .per_task = 20}),
             again = builtin_tasks({.seed = 5, .per_task = 20});
  const auto other = builtin_tasks({.seed = 6, .per_task = 20});
  ASSERT_EQ(once.size(), 120u);
  size_t same = 0;
  for (size_t i = 0; i < once.size(); ++i) {
    EXPECT_EQ(once[i].user, again[i].user);
    same += once[i].user == other[i].user;
  }
  EXPECT_LT(same, 6u);
  // The first items of a longer run are the items of a shorter one.
  EXPECT_EQ(builtin_tasks({.seed = 5, .per_task = 40})[0].user, once[0].user);
}

TEST(BuiltinTasks, NeverRepeatAnItem) {
  std::set<std::string> seen;
  for (const TaskItem& item : builtin_tasks({.per_task = 1000})) {
    EXPECT_TRUE(seen.insert(item.system + "\n" + item.user).second) << item.user;
    EXPECT_FALSE(item.answer.empty());
    EXPECT_LT(item.gold, 0);
  }
}

TEST(BuiltinTasks, HaveTheRightAnswers) {
  const auto tasks = by_task({.per_task = 200});
  for (const TaskItem& item : tasks.at("arithmetic")) {
    std::istringstream words(item.user.substr(8));
    int64_t a, b;
    char op;
    words >> a >> op >> b;
    EXPECT_EQ(std::to_string(op == '+'   ? a + b
                             : op == '-' ? a - b
                                         : a * b),
              item.answer)
        << item.user;
  }
  for (const TaskItem& item : tasks.at("sort")) {
    auto words = split(item.user.substr(item.user.find(": ") + 2), ", ");
    std::sort(words.begin(), words.end());
    EXPECT_EQ(split(item.answer, ", "), words);
    EXPECT_EQ(std::set(words.begin(), words.end()).size(), words.size());
  }
  for (const TaskItem& item : tasks.at("largest")) {
    int64_t largest = 0;
    for (const std::string& number : split(item.user.substr(item.user.find(": ") + 2), ", "))
      largest = std::max<int64_t>(largest, std::stoll(number));
    EXPECT_EQ(std::to_string(largest), item.answer);
  }
  for (const TaskItem& item : tasks.at("extract")) {
    const auto json = nlohmann::json::parse(item.answer);
    EXPECT_NE(item.user.find(json.at("name").get<std::string>()), std::string::npos);
    EXPECT_NE(item.user.find(json.at("city").get<std::string>()), std::string::npos);
    EXPECT_NE(item.user.find(std::to_string(json.at("age").get<int>())), std::string::npos);
  }
  for (const TaskItem& item : tasks.at("needle")) {
    const std::string wanted = split(item.user, "What is the pass key for ").back();
    const std::string line =
        "The pass key for " + wanted.substr(0, wanted.size() - 1) + " is " + item.answer + ".";
    EXPECT_NE(item.user.find(line), std::string::npos);
    EXPECT_LT(item.user.size(), 2000u);
  }
}

TEST(BuiltinTasks, CallADeclaredFunctionInEitherGrammar) {
  const auto gemma = by_task({.per_task = 200});
  for (const TaskItem& item : gemma.at("tool")) {
    const std::string name = split(split(item.answer, "call:").at(1), "{").front();
    EXPECT_NE(item.system.find("<|tool>declaration:" + name + "{"), std::string::npos)
        << item.answer;
    EXPECT_TRUE(item.answer.starts_with("<|tool_call>") && item.answer.ends_with("}<tool_call|>"));
  }
  const auto json = by_task({.per_task = 200, .tools = ToolGrammar::kJson});
  for (const TaskItem& item : json.at("tool")) {
    const auto call = nlohmann::json::parse(item.answer);
    EXPECT_NE(item.system.find("\n" + call.at("name").get<std::string>() + "("), std::string::npos);
    EXPECT_EQ(call.at("arguments").size(), 2u);
  }
}

TEST(BuiltinTasks, RefuseOptionsOutOfRange) {
  EXPECT_THROW(builtin_tasks({.per_task = 0}), Error);
  EXPECT_THROW(builtin_tasks({.per_task = 10'001}), Error);
  EXPECT_THROW(builtin_tasks({.needle_characters = -1}), Error);
  EXPECT_EQ(by_task({.per_task = 2, .needle_characters = 0}).count("needle"), 0u);
}

}  // namespace
}  // namespace lapidary
