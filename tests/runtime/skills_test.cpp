// A trained model at 4 bits with a 4-bit cache: every tool call it writes can be taken apart, every
// answer under a schema is JSON.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/chat_session.h"
#include "runtime/grammar/vocabulary.h"
#include "runtime/text/reply_parser.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

using nlohmann::json;

class Skills : public testing::Test {
 protected:
  Skills() {
    EngineOptions options;
    options.n_threads = 2;
    engine_ = std::make_unique<Engine>(quantized_model("nano-e", Code::kW4), options);
    chat_.context = 1024;
    chat_.kv = parse_kv_code("k4v4");
    chat_.generate.max_tokens = 200;
    chat_.generate.sampling.greedy = true;
    chat_.generate.stop_ids = engine_->model().config().eos_ids;
  }
  std::string ask(const json& item) {
    chat_.system = item.value("system", "");
    return ChatSession(*engine_, chat_).say(item["user"].get<std::string>(), {}, {}).text;
  }
  // Items that no checkpoint has seen in training.
  static std::vector<json> items_of(const std::string& task) {
    std::ifstream lines(data_path("skills.jsonl"));
    std::vector<json> items;
    for (std::string line; std::getline(lines, line);)
      if (json item = json::parse(line); item["task"] == task) items.push_back(std::move(item));
    return items;
  }

  std::unique_ptr<Engine> engine_;
  ChatOptions chat_;
};

TEST_F(Skills, EveryToolCallParses) {
  size_t n_parsed = 0, n_right = 0;
  const std::vector<json> items = items_of("tool");
  for (const json& item : items) {
    const std::string text = ask(item);
    const Reply reply = parse_reply(ReplyFormat::kGemma4, text);
    const bool is_parsed = reply.calls.size() == 1 && reply.calls[0].is_complete &&
                           reply.content.empty() &&
                           json::parse(reply.calls[0].arguments_json, nullptr, false).is_object();
    EXPECT_TRUE(is_parsed) << text;
    n_parsed += is_parsed;
    n_right += text == item["answer"].get<std::string>();
  }
  std::printf("tool: %zu calls, %zu parsed, %zu as asked for\n", items.size(), n_parsed, n_right);
  EXPECT_EQ(n_parsed, items.size());
  EXPECT_GE(items.size(), 400u);
}

TEST_F(Skills, EveryExtractedRecordIsJson) {
  const Rule rule = Rule::schema(R"({"type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 60},
                   "age": {"type": "integer", "minimum": 0, "maximum": 150},
                   "city": {"type": "string", "minLength": 1, "maxLength": 60}},
    "required": ["name", "age", "city"]})");
  chat_.generate.constraint = Constraint::compile(
      rule, std::make_shared<const grammar::Vocabulary>(engine_->model().tokenizer()),
      chat_.generate.stop_ids);
  size_t n_valid = 0, n_right = 0;
  const std::vector<json> items = items_of("extract");
  for (const json& item : items) {
    const std::string text = ask(item);
    const json record = json::parse(text, nullptr, false);
    const bool is_valid = record.is_object() && record.size() == 3 && record["name"].is_string() &&
                          record["age"].is_number_integer() && record["city"].is_string();
    EXPECT_TRUE(is_valid) << text;
    n_valid += is_valid;
    n_right += record == json::parse(item["answer"].get<std::string>());
  }
  std::printf("extract: %zu records, %zu valid, %zu right\n", items.size(), n_valid, n_right);
  EXPECT_EQ(n_valid, items.size());
  EXPECT_GE(items.size(), 400u);
}

}  // namespace
}  // namespace lapidary
