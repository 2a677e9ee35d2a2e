// One function per form, each from a JSON object to messages.
#include "finetune/records.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "formats/line_reader.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;  // keeps the order of tool parameters as written

constexpr std::string_view kFormNames[kRecordFormCount] = {
    "messages", "ShareGPT", "Alpaca", "prompt/completion", "task items", "text"};

Json parse_object(std::string_view text, const char* what) {
  guard_json(text, what);
  Json value = Json::parse(text);
  if (!value.is_object()) fail(ErrorCode::kBadData, "{} should be a JSON object", what);
  return value;
}

const Json& string_field(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end()) fail(ErrorCode::kBadData, "\"{}\" is missing", key);
  if (!it->is_string()) fail(ErrorCode::kBadData, "\"{}\" should be a string", key);
  return *it;
}

bool has_text(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() && !it->get_ref<const std::string&>().empty();
}

// Templates want tool-call arguments as an object; OpenAI's wire form is a string of JSON.
void parse_arguments(Json& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->is_array()) return;
  for (Json& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object())
      fail(ErrorCode::kBadData, "a tool call should be {{\"function\": {{...}}}}");
    Json& function = call["function"];
    if (!function.contains("arguments") || !function["arguments"].is_string()) continue;
    function["arguments"] =
        parse_object(function["arguments"].get<std::string>(), "the arguments of a tool call");
  }
}

// Thoughts under both names that templates read them by. Whether there are any.
bool spell_reasoning(Json& message) {
  for (const auto& [name, other] :
       {std::pair("reasoning", "reasoning_content"), std::pair("reasoning_content", "reasoning")})
    if (has_text(message, name)) {
      if (!has_text(message, other)) message[other] = message[name];
      return true;
    }
  return false;
}

void add_message(Record& record, Json message) {
  const std::string role = string_field(message, "role").get<std::string>();
  constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
  if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles))
    fail(ErrorCode::kBadData, "role \"{}\" is unknown; use {}", role, fmt::join(kRoles, ", "));
  parse_arguments(message);
  if (role == "assistant") record.thinks = spell_reasoning(message) || record.thinks;
  record.messages.push_back({message.dump(), role == "assistant"});
}

void add_turn(Record& record, std::string_view role, const Json& content) {
  add_message(record, Json{{"role", role}, {"content", content}});
}

void take_tools(Record& record, const Json& object) {
  const auto tools = object.find("tools");
  if (tools == object.end() || tools->is_null()) return;
  Json list = *tools;
  if (list.is_string()) {
    guard_json(list.get<std::string>(), "\"tools\"");
    list = Json::parse(tools->get<std::string>());
  }
  if (!list.is_array()) fail(ErrorCode::kBadData, "\"tools\" should be an array");
  if (!list.empty()) record.tools_json = list.dump();
}

void read_messages(Record& record, const Json& object) {
  const Json& messages = object.at("messages");
  if (!messages.is_array()) fail(ErrorCode::kBadData, "\"messages\" should be an array");
  for (const Json& message : messages) {
    if (!message.is_object()) fail(ErrorCode::kBadData, "a message should be an object");
    add_message(record, message);
  }
  take_tools(record, object);
}

void read_sharegpt(Record& record, const Json& object) {
  const Json& turns = object.at("conversations");
  if (!turns.is_array()) fail(ErrorCode::kBadData, "\"conversations\" should be an array");
  if (has_text(object, "system")) add_turn(record, "system", object.at("system"));
  for (const Json& turn : turns) {
    if (!turn.is_object()) fail(ErrorCode::kBadData, "a conversation's turn should be an object");
    const std::string from = string_field(turn, "from").get<std::string>();
    const Json& value = string_field(turn, "value");
    if (from == "human" || from == "user") {
      add_turn(record, "user", value);
    } else if (from == "gpt" || from == "assistant" || from == "model") {
      add_turn(record, "assistant", value);
    } else if (from == "system") {
      add_turn(record, "system", value);
    } else if (from == "observation" || from == "tool") {
      add_turn(record, "tool", value);
    } else if (from == "function_call") {
      const Json call = parse_object(value.get<std::string>(), "a function_call turn");
      add_message(record,
                  Json{{"role", "assistant"},
                       {"content", nullptr},
                       {"tool_calls", Json::array({{{"type", "function"}, {"function", call}}})}});
    } else {
      fail(ErrorCode::kBadData, "\"from\": \"{}\" is unknown; use human, gpt, system, ...", from);
    }
  }
  take_tools(record, object);
}

void read_alpaca(Record& record, const Json& object) {
  std::string user = string_field(object, "instruction").get<std::string>();
  if (has_text(object, "input")) user += "\n\n" + object.at("input").get<std::string>();
  if (has_text(object, "system")) add_turn(record, "system", object.at("system"));
  add_turn(record, "user", user);
  add_turn(record, "assistant", string_field(object, "output"));
}

void read_pair(Record& record, const Json& object, const char* question, const char* answer) {
  if (has_text(object, "system")) add_turn(record, "system", object.at("system"));
  add_turn(record, "user", string_field(object, question));
  add_turn(record, "assistant", string_field(object, answer));
}

Record read_record(const Json& object) {
  Record record;
  if (object.contains("messages")) {
    record.form = RecordForm::kMessages;
    read_messages(record, object);
  } else if (object.contains("conversations")) {
    record.form = RecordForm::kShareGpt;
    read_sharegpt(record, object);
  } else if (object.contains("instruction")) {
    record.form = RecordForm::kAlpaca;
    read_alpaca(record, object);
  } else if (object.contains("prompt") && object.contains("completion")) {
    record.form = RecordForm::kPromptCompletion;
    read_pair(record, object, "prompt", "completion");
  } else if (object.contains("user") && object.contains("answer")) {
    record.form = RecordForm::kTaskItem;
    read_pair(record, object, "user", "answer");
  } else if (object.contains("text")) {
    record.form = RecordForm::kText;
    record.text = string_field(object, "text").get<std::string>();
    if (record.text.empty()) fail(ErrorCode::kBadData, "\"text\" is empty");
    return record;
  } else {
    fail(ErrorCode::kBadData,
         "no known form; expected \"messages\", \"conversations\", \"instruction\", \"prompt\" and "
         "\"completion\", \"user\" and \"answer\", or \"text\"");
  }
  if (std::none_of(record.messages.begin(), record.messages.end(),
                   [](const ChatMessage& m) { return m.is_answer; }))
    fail(ErrorCode::kBadData, "there is no assistant turn to learn from");
  return record;
}

}  // namespace

std::string_view form_name(RecordForm form) { return kFormNames[static_cast<size_t>(form)]; }

int64_t RecordCounts::total() const {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

std::string RecordCounts::describe() const {
  std::vector<std::string> parts;
  for (size_t i = 0; i < kRecordFormCount; ++i)
    if (counts[i] > 0) parts.push_back(fmt::format("{} {}", kFormNames[i], counts[i]));
  return fmt::format("{}: {} examples ({})", path, total(), fmt::join(parts, ", "));
}

Record parse_record(std::string_view line) { return read_record(parse_object(line, "the line")); }

RecordCounts read_records(const std::string& path, const std::function<void(const Record&)>& use,
                          const Events& events) {
  RecordCounts counts;
  counts.path = path;
  LineReader reader(path);
  std::string line;
  while (reader.next(line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    with_context(fmt::format("{} line {}", path, reader.line_number()), [&] {
      Record record = parse_record(line);
      record.line = reader.line_number();
      use(record);
      ++counts.counts[static_cast<size_t>(record.form)];
    });
    if (counts.total() % 256 == 0)
      events.progress({"bytes of data", reader.bytes_read(), reader.bytes_total(), 0, path});
  }
  if (counts.total() == 0) fail(ErrorCode::kBadData, "{}: no examples; the file is empty", path);
  counts.hash = reader.hash();
  return counts;
}

}  // namespace lapidary
