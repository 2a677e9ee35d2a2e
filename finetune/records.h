// Training data as people have it: one JSON object per line, in the forms that circulate.
//
//   messages           {"messages": [{"role", "content", "tool_calls"?}], "tools"?}   (OpenAI)
//   ShareGPT           {"conversations": [{"from", "value"}], "system"?, "tools"?}
//   Alpaca             {"instruction", "input"?, "output", "system"?}
//   prompt/completion  {"prompt", "completion"}: one user turn and its answer
//   task items         {"user", "answer", "system"?}, as in a tasks file of `verify`
//   text               {"text"}: learned as it stands, no template
//
// The form is recognised line by line; the first five become messages in OpenAI's form.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

enum class RecordForm : uint8_t {
  kMessages,
  kShareGpt,
  kAlpaca,
  kPromptCompletion,
  kTaskItem,
  kText
};
inline constexpr size_t kRecordFormCount = 6;

struct ChatMessage {
  std::string json;        // one message object, tool-call arguments as objects
  bool is_answer = false;  // role assistant: what the model is to learn
};

struct Record {
  RecordForm form = RecordForm::kText;
  int64_t line = 0;  // from 1
  std::vector<ChatMessage> messages;
  std::string tools_json;  // array or empty
  std::string text;        // kText only
};

struct RecordFile {
  std::string path;
  std::vector<Record> records;
  std::array<int64_t, kRecordFormCount> counts{};  // per form
  std::string describe() const;  // "data.jsonl: 12 examples (messages 10, text 2)"
};

// Blank lines are skipped. Throws kNotFound, kIo, or kBadData naming the line: bad JSON, no known
// form, an unknown role, no answer to learn, nothing in the file at all.
RecordFile read_records(const std::string& path);
RecordFile parse_records(const std::string& path, std::string_view text);  // `path`: for messages

}  // namespace lapidary
