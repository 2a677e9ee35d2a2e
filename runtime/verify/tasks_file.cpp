// Reads task files: one JSON object a line, every mistake named by its line.
#include <map>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/json_guard.h"
#include "runtime/verify/tasks.h"

namespace lapidary {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = size_t{4} << 20;  // a needle in a million tokens of context
constexpr size_t kMaxNameBytes = 100;
constexpr size_t kMaxChoices = 100;
constexpr size_t kMaxItems = 10'000'000;

const std::string* find_text(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return nullptr;
  if (!found->is_string())
    fail(ErrorCode::kBadData, "\"{}\" is {}, expected a string", key, found->type_name());
  return found->get_ptr<const std::string*>();
}

const std::string& required_text(const json& object, const char* key) {
  const std::string* text = find_text(object, key);
  if (!text) fail(ErrorCode::kBadData, "\"{}\" is missing, expected a string", key);
  return *text;
}

std::string task_name(const json& object) {
  const std::string& name = required_text(object, "task");
  if (name.empty() || name.size() > kMaxNameBytes)
    fail(ErrorCode::kBadData, "\"task\" has {} bytes, expected 1 to {}", name.size(),
         kMaxNameBytes);
  for (const unsigned char c : name)
    if (c < 0x20 || c == 0x7F) fail(ErrorCode::kBadData, "\"task\" contains a control character");
  if (name == kPooledName)
    fail(ErrorCode::kBadData,
         "\"task\" is 'pooled', which stands for all tasks together; use another name");
  return name;
}

void read_choices(const json& object, TaskItem& item) {
  item.context = required_text(object, "context");
  const auto choices = object.find("choices");
  if (choices == object.end() || !choices->is_array() || choices->size() < 2 ||
      choices->size() > kMaxChoices)
    fail(ErrorCode::kBadData, "\"choices\": expected an array of 2 to {} strings", kMaxChoices);
  for (const json& choice : *choices) {
    if (!choice.is_string() || choice.get_ptr<const std::string*>()->empty())
      fail(ErrorCode::kBadData, "\"choices\": expected strings that are not empty, found {}",
           choice.type_name());
    item.choices.push_back(choice.get<std::string>());
  }
  const auto gold = object.find("gold");
  if (gold == object.end() || !gold->is_number_integer() || *gold < 0 ||
      *gold >= static_cast<int64_t>(item.choices.size()))
    fail(ErrorCode::kBadData, "\"gold\": expected the number of the right choice, 0 to {}",
         item.choices.size() - 1);
  item.gold = gold->get<int>();
}

TaskItem parse_item(std::string_view line) {
  if (line.size() > kMaxLineBytes)
    fail(ErrorCode::kBadData, "the line has {} bytes, expected at most {}", line.size(),
         kMaxLineBytes);
  guard_json(line, "the item");
  const json object = json::parse(line);
  if (!object.is_object()) fail(ErrorCode::kBadData, "expected one JSON object");
  TaskItem item;
  item.task = task_name(object);
  const bool chat = object.contains("user"), choice = object.contains("context");
  if (chat == choice)
    fail(ErrorCode::kBadData,
         "expected either \"user\" and \"answer\", or \"context\", \"choices\" and \"gold\"");
  if (choice) {
    read_choices(object, item);
    return item;
  }
  item.user = required_text(object, "user");
  item.answer = required_text(object, "answer");
  if (item.answer.find_first_not_of(" \t\n\r\f\v") == std::string::npos)
    fail(ErrorCode::kBadData, "\"answer\" is empty, expected what the model should say");
  if (const std::string* system = find_text(object, "system")) item.system = *system;
  return item;
}

}  // namespace

std::vector<TaskItem> parse_tasks(std::string_view jsonl, int64_t limit_per_task) {
  if (limit_per_task < 0)
    fail(ErrorCode::kUsage, "--limit-items {}: expected 0 (all) or more", limit_per_task);
  std::vector<TaskItem> items;
  std::map<std::string, int64_t> counts;
  int64_t number = 0;
  while (!jsonl.empty()) {
    const size_t end = std::min(jsonl.find('\n'), jsonl.size());
    const std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    TaskItem item = with_context(fmt::format("line {}", number), [&] { return parse_item(line); });
    if (limit_per_task > 0 && ++counts[item.task] > limit_per_task) continue;
    if (items.size() == kMaxItems)
      fail(ErrorCode::kOutOfMemory, "line {}: more than {} items; give fewer", number, kMaxItems);
    items.push_back(std::move(item));
  }
  if (items.empty()) fail(ErrorCode::kBadData, "no items: expected one JSON object a line");
  return items;
}

std::vector<TaskItem> read_tasks(const std::string& path, int64_t limit_per_task) {
  const std::string text = read_text(path);
  return with_context(path, [&] { return parse_tasks(text, limit_per_task); });
}

}  // namespace lapidary
