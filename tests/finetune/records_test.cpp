// Training data in all forms, and what is said about lines that are wrong.
#include "finetune/records.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "formats/error.h"
#include "tests/finetune/record_forms.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

struct RecordFile {
  std::vector<Record> records;
  RecordCounts counts;
};

RecordFile read_all(const std::string& path) {
  RecordFile file;
  file.counts = read_records(path, [&](const Record& record) { file.records.push_back(record); });
  return file;
}

// A file d.jsonl with these lines.
RecordFile parse_records(const std::string& text) {
  TemporaryFolder folder;
  std::ofstream(folder.file("d.jsonl"), std::ios::binary) << text;
  return read_all(folder.file("d.jsonl"));
}

// The one record of `line`, which may be wrapped here for reading.
Record one(std::string line) {
  std::replace(line.begin(), line.end(), '\n', ' ');
  return parse_records(line).records.at(0);
}

std::string joined(const Record& record) {
  std::string all;
  for (const ChatMessage& m : record.messages) all += (m.is_answer ? "*" : "") + m.json + "\n";
  return all;
}

TEST(Records, BringsEveryFormToMessages) {
  const std::string expected =
      "{\"role\":\"user\",\"content\":\"Q\"}\n*{\"role\":\"assistant\",\"content\":\"A\"}\n";
  for (const char* line : kOneTurnInEveryForm) EXPECT_EQ(joined(one(line)), expected) << line;
}

TEST(Records, CountsFormsInItsDescription) {
  const auto file = parse_records("{\"text\": \"x\"}\n\n{\"text\": \"y\"}\r\n" +
                                  std::string(R"({"prompt":"Q","completion":"A"})"));
  EXPECT_NE(file.counts.describe().find("d.jsonl: 3 examples (prompt/completion 1, text 2)"),
            std::string::npos);
  EXPECT_EQ(file.records[2].line, 4);
}

TEST(Records, KeepsSystemTextAndAlpacaInput) {
  const Record r = one(R"({"instruction": "I", "input": "X", "output": "O", "system": "S"})");
  EXPECT_EQ(
      joined(r),
      "{\"role\":\"system\",\"content\":\"S\"}\n{\"role\":\"user\",\"content\":\"I\\n\\nX\"}\n"
      "*{\"role\":\"assistant\",\"content\":\"O\"}\n");
}

TEST(Records, ParsesToolCallArgumentsGivenAsStrings) {
  const Record r = one(
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": null,
          "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"b\": 1}"}}]}],
          "tools": "[{\"type\": \"function\"}]"})");
  EXPECT_NE(r.messages[1].json.find(R"("arguments":{"b":1})"), std::string::npos);
  EXPECT_EQ(r.tools_json, R"([{"type":"function"}])");
}

TEST(Records, ReadsShareGptFunctionCalls) {
  const Record r = one(
      R"({"conversations": [{"from": "human", "value": "Q"},
          {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"a\": 2}}"},
          {"from": "observation", "value": "3"}, {"from": "gpt", "value": "A"}]})");
  ASSERT_EQ(r.messages.size(), 4u);
  EXPECT_TRUE(r.messages[1].is_answer);
  EXPECT_NE(r.messages[1].json.find(R"("name":"f")"), std::string::npos);
  EXPECT_NE(r.messages[2].json.find(R"("role":"tool")"), std::string::npos);
}

TEST(Records, NamesTheLineThatIsWrong) {
  const std::string good = "{\"text\": \"x\"}\n";
  for (const auto& [bad, says] : std::vector<std::pair<std::string, std::string>>{
           {"{", "line 2"},
           {"[1]", "JSON object"},
           {"{\"a\": 1}", "no known form"},
           {"{\"text\": 3}", "\"text\" should be a string"},
           {"{\"text\": \"\"}", "empty"},
           {"{\"text\": \"\xff\"}", "line 2"},
           {R"({"messages": []})", "no assistant turn"},
           {R"({"messages": {}})", "should be an array"},
           {R"({"messages": [{"role": "robot", "content": ""}]})", "\"robot\" is unknown"},
           {R"({"messages": [{"role": "user", "content": ""}]})", "no assistant turn"},
           {R"({"messages": [{"role": "assistant", "tool_calls": [{}]}]})", "tool call"},
           {R"({"conversations": [{"from": "who", "value": ""}]})", "\"who\" is unknown"},
           {R"({"prompt": "Q", "completion": 7})", "\"completion\" should be a string"},
           {std::string(5000, '[') + std::string(5000, ']'), "line 2"}}) {
    try {
      parse_records(good + bad);
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData);
      EXPECT_NE(std::string(e.what()).find("d.jsonl line 2"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
    }
  }
}

TEST(Records, RefusesAnEmptyFile) {
  EXPECT_THROW(parse_records("\n \n"), Error);
  EXPECT_THROW(read_all(data_path("not-there.jsonl")), Error);
}

TEST(Records, ReadsTheTaskItemsOfTheClone) {
  const RecordFile file = read_all(data_path("skills.jsonl"));
  EXPECT_EQ(file.counts.counts[static_cast<size_t>(RecordForm::kTaskItem)], 3450);
}

}  // namespace
}  // namespace lapidary
