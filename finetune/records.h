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
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/events.h"
#include "formats/hash.h"

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
  bool thinks = false;     // some answer carries its reasoning
};

std::string_view form_name(RecordForm form);

struct RecordCounts {
  std::string path;
  std::array<int64_t, kRecordFormCount> counts{};  // per form
  Hash128 hash;                                    // of the file's text, unpacked
  int64_t total() const;
  std::string describe() const;  // "data.jsonl: 12 examples (messages 10, text 2)"
};

// Reads line by line, plain or zstd, and gives each record to `use`; what `use` throws is named
// with the line. Blank lines are skipped. Throws kNotFound, kIo, or kBadData naming the line: bad
// JSON, no known form, an unknown role, no answer to learn, nothing in the file at all.
RecordCounts read_records(const std::string& path, const std::function<void(const Record&)>& use,
                          const Events& events = {});
// One line. Throws kBadData.
Record parse_record(std::string_view line);

}  // namespace lapidary
