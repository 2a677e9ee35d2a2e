// A real model under a constraint: what it writes follows the schema, asked for or not.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/chat_session.h"
#include "runtime/grammar/vocabulary.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

using nlohmann::json;

constexpr const char* kPerson = R"({"type": "object",
  "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 40},
                 "age": {"type": "integer", "minimum": 0, "maximum": 120},
                 "city": {"type": "string", "maxLength": 30}},
  "required": ["name", "age", "city"]})";

class Constrained : public testing::Test {
 protected:
  const Model& model() const { return engine_.model(); }
  GenerateOptions options(const Rule& rule) {
    static const auto vocabulary = std::make_shared<const grammar::Vocabulary>(model().tokenizer());
    GenerateOptions options;
    options.max_tokens = 400;
    options.sampling.greedy = true;
    options.stop_ids = model().config().eos_ids;
    options.constraint = Constraint::compile(rule, vocabulary, options.stop_ids);
    return options;
  }
  ChatReply ask(const std::string& text, const GenerateOptions& generate) {
    ChatOptions chat;
    chat.context = 1024;
    chat.generate = generate;
    return ChatSession(engine_, chat).say(text, {}, {});
  }
  static EngineOptions two_threads() {
    EngineOptions options;
    options.n_threads = 2;
    return options;
  }
  Engine engine_{converted_model("nano-e"), two_threads()};
};

TEST_F(Constrained, AnswersFollowTheSchemaAndStayRight) {
  const GenerateOptions generate = options(Rule::schema(kPerson));
  std::ifstream items(data_path("skills.jsonl"));
  int n = 0, n_right = 0;
  for (std::string line; n < 10 && std::getline(items, line);) {
    const json item = json::parse(line);
    if (item["task"] != "extract") continue;
    ++n;
    const ChatReply reply = ask(item["user"], generate);
    EXPECT_EQ(reply.result.finish_reason, "stop");
    const json answer = json::parse(reply.text);  // throws when it is not JSON
    EXPECT_TRUE(answer["name"].is_string() && answer["age"].is_number_integer());
    n_right += answer == json::parse(item["answer"].get<std::string>());
  }
  EXPECT_EQ(n, 10);
  EXPECT_GE(n_right, 9);  // what the model can do without the schema too
}

TEST_F(Constrained, AnswersAreJsonEvenWhenTheQuestionIsNot) {
  GenerateOptions generate = options(Rule::schema(kPerson));
  for (uint64_t seed = 0; seed < 6; ++seed) {
    generate.sampling.greedy = false;
    generate.sampling.temperature = 1.5f;
    generate.sampling.seed = seed;
    const ChatReply reply = ask("What is 29 + 631?", generate);
    EXPECT_EQ(reply.result.finish_reason, "stop") << reply.text;
    const json answer = json::parse(reply.text);
    EXPECT_LE(answer["age"].get<int>(), 120);
    EXPECT_EQ(answer.size(), 3u);
  }
}

TEST_F(Constrained, AnswersMatchAPattern) {
  const ChatReply reply = ask("What is 29 + 631?", options(Rule::regex("The sum is [0-9]{3}\\.")));
  EXPECT_TRUE(reply.text.starts_with("The sum is ")) << reply.text;
  EXPECT_EQ(reply.text.size(), std::string("The sum is 660.").size());
  EXPECT_EQ(reply.result.finish_reason, "stop");
  // With one possible text the model has nothing to say.
  EXPECT_EQ(ask("hi", options(Rule::text("yes"))).text, "yes");
  EXPECT_EQ(ask("hi", options(Rule::text(""))).text, "");
}

TEST_F(Constrained, FreeTextComesFirstWhenAskedFor) {
  const Rule rule = Rule::sequence({Rule::free_until("\"age\": "), Rule::regex("[0-9]{2}!")});
  const ChatReply reply =
      ask("Give the name, age and city in this text as JSON.\nAt 68, Liam Tanaka moved to Tunis.",
          options(rule));
  EXPECT_EQ(reply.text, R"({"name": "Liam Tanaka", "age": 68!)");
  EXPECT_EQ(reply.result.finish_reason, "stop");
}

}  // namespace
}  // namespace lapidary
