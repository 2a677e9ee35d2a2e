// What is learned of a conversation: exactly the model's own turns, as the recorded batches of the
// training curves label them.
#include "finetune/examples.h"

#include <gtest/gtest.h>

#include <sstream>

#include "finetune/token_row.h"
#include "formats/error.h"
#include "tests/finetune/fixtures.h"
#include "tests/finetune/record_forms.h"

namespace lapidary {
namespace {

std::string between(const std::string& text, const std::string& before, const std::string& after) {
  const size_t begin = text.find(before) + before.size();
  return text.substr(begin, text.find(after, begin) - begin);
}

struct ExampleSet : ExampleCounts {
  std::vector<Example> examples;
};

class Examples : public testing::Test {
 protected:
  ExampleSet make(const std::string& lines, ExampleOptions options = {}) const {
    const ExampleMaker maker(model_->tokenizer(), metadata_, options);
    ExampleSet set;
    std::istringstream stream(lines);
    int number = 0;
    for (std::string line; std::getline(stream, line);)
      with_context("line " + std::to_string(++number), [&] {
        maker.make(parse_record(line), set,
                   [&](Example example) { set.examples.push_back(std::move(example)); });
      });
    return set;
  }
  // The learned tokens as text, turns separated by "|".
  std::string learned(const Example& e) const {
    std::string all;
    std::vector<int32_t> run;
    for (size_t i = 0; i <= e.labels.size(); ++i) {
      if (i < e.labels.size() && e.labels[i] != kNotLearned) {
        EXPECT_EQ(e.labels[i], e.ids[i]);
        run.push_back(e.labels[i]);
      } else if (!run.empty()) {
        all += (all.empty() ? "" : "|") + model_->tokenizer().decode(run);
        run.clear();
      }
    }
    return all;
  }
  std::string text(const Example& e) const { return model_->tokenizer().decode(e.ids); }

  std::shared_ptr<const Model> model_ = load_converted(data_path("nano-e"));
  ModelMetadata metadata_ = model_->file().metadata();
};

TEST_F(Examples, LabelsTheRecordedBatchesAsTheyWereRecorded) {
  for (int i = 0; i < 32; ++i) {
    TokenRow row = batch_rows(data_path("nano-e"), i, 1);
    while (row.ids.back() == 0) row.ids.pop_back();
    row.labels.resize(row.ids.size());
    const std::string decoded = model_->tokenizer().decode(row.ids);
    const std::string number = between(decoded, "Write ", " as a Roman");
    const std::string answer = between(decoded, "<|turn>model\n", "<turn|>");
    const ExampleSet set =
        make(R"({"messages": [{"role": "user", "content": "Write )" + number +
             R"( as a Roman numeral."}, {"role": "assistant", "content": ")" + answer + "\"}]}");
    ASSERT_EQ(set.examples.size(), 1u);
    EXPECT_EQ(set.examples[0].ids, row.ids);
    EXPECT_EQ(set.examples[0].labels, row.labels);
  }
}

constexpr const char* kTwoTurns =
    R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "3+3?"}, {"role": "assistant", "content": "6"}]})";

TEST_F(Examples, LearnsEachTurnOfTheModelAndNothingElse) {
  const ExampleSet set = make(kTwoTurns);
  ASSERT_EQ(set.examples.size(), 1u);
  EXPECT_EQ(learned(set.examples[0]), "4<turn|>\n|6<turn|>\n");
  EXPECT_EQ(set.n_unrolled, 0);
  EXPECT_EQ(set.tokens, static_cast<int64_t>(set.examples[0].ids.size()));
}

TEST_F(Examples, LearnsToolCalls) {
  const ExampleSet set = make(
      R"({"messages": [{"role": "user", "content": "Weather in Oslo?"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}}]}], "tools": [{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "c"}}, "required": ["city"]}}}]})");
  EXPECT_EQ(learned(set.examples.at(0)),
            "<|tool_call>call:get_weather{city:<|\"|>Oslo<|\"|>}<tool_call|><turn|>\n");
}

TEST_F(Examples, LearnsEverythingInPlainMode) {
  const ExampleSet set = make(kTwoTurns, {.train_on_all = true});
  EXPECT_EQ(set.examples.at(0).labels, set.examples.at(0).ids);
}

TEST_F(Examples, CutsLongExamplesAndDropsThoseWithNothingLeft) {
  const auto n = static_cast<int64_t>(make(kTwoTurns).examples[0].ids.size());
  const ExampleSet cut = make(kTwoTurns, {.context = n - 2});
  EXPECT_EQ(cut.n_cut, 1);
  EXPECT_EQ(learned(cut.examples.at(0)), "4<turn|>\n|6");
  const std::string later =
      R"({"prompt": "long long long long long long long long long", "completion": "x"})";
  const ExampleSet dropped = make(std::string(kTwoTurns) + "\n" + later, {.context = 22});
  EXPECT_EQ(dropped.n_dropped, 1);
  EXPECT_EQ(dropped.examples.size(), 1u);
  EXPECT_TRUE(make(later, {.context = 8}).examples.empty());
}

TEST_F(Examples, LeavesOutOrRefusesLongExamplesWhereAsked) {
  const auto n = static_cast<int64_t>(make(kTwoTurns).examples[0].ids.size());
  const ExampleSet left_out = make(kTwoTurns, {.context = n - 2, .too_long = TooLong::kDrop});
  EXPECT_EQ(left_out.n_dropped, 1);
  EXPECT_TRUE(left_out.examples.empty());
  EXPECT_EQ(make(kTwoTurns, {.context = n, .too_long = TooLong::kRefuse}).examples.size(), 1u);
  EXPECT_THROW(make(kTwoTurns, {.context = n - 1, .too_long = TooLong::kRefuse}), Error);
  EXPECT_THROW(parse_too_long("shorten"), Error);
}

TEST_F(Examples, CutsTextIntoWindowsThatEachBeginWithBos) {
  const ExampleSet set =
      make(R"({"text": "one two three four five six seven eight <turn|>"})", {.context = 6});
  ASSERT_GT(set.examples.size(), 1u);
  EXPECT_EQ(set.n_windows, static_cast<int64_t>(set.examples.size()) - 1);
  std::string all;
  for (const Example& e : set.examples) {
    EXPECT_EQ(e.ids.front(), model_->config().bos_id);
    EXPECT_EQ(e.labels, e.ids);
    EXPECT_LE(e.ids.size(), 6u);
    all += model_->tokenizer().decode(std::span(e.ids).subspan(1));
  }
  // Special tokens written in raw text are text; the end token follows the whole.
  EXPECT_EQ(all, "one two three four five six seven eight <turn|><eos>");
}

TEST_F(Examples, UnrollsTurnsThatTheTemplateRendersDifferentlyLater) {
  // A template that drops what an earlier answer said, as reasoning templates do.
  metadata_.chat_template =
      "{{ bos_token }}{% for m in messages %}<|turn>{{ m['role'] }}\n"
      "{{ m['content'] if loop.last or m['role'] == 'user' else 'gone' }}<turn|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|turn>assistant\n{% endif %}";
  const ExampleSet set = make(kTwoTurns);
  EXPECT_EQ(set.n_unrolled, 1);
  ASSERT_EQ(set.examples.size(), 2u);
  EXPECT_EQ(learned(set.examples[0]), "4<turn|>\n");
  EXPECT_EQ(learned(set.examples[1]), "6<turn|>\n");
  EXPECT_NE(text(set.examples[1]).find("gone"), std::string::npos);
}

TEST_F(Examples, KeepsTheEmptyReasoningThatAPromptAdds) {
  metadata_.chat_template =
      "{{ bos_token }}{% for m in messages %}<|turn>{{ m['role'] }}\n{{ m['content'] }}<turn|>\n"
      "{% endfor %}{% if add_generation_prompt %}<|turn>assistant\n<|channel>thought\n<channel|>"
      "{% endif %}";
  const ExampleSet set = make(R"({"prompt": "Q", "completion": "A"})");
  EXPECT_EQ(learned(set.examples.at(0)), "A<turn|>\n");
  EXPECT_EQ(
      text(set.examples.at(0)),
      "<bos><|turn>user\nQ<turn|>\n<|turn>assistant\n<|channel>thought\n<channel|>A<turn|>\n");
}

// The grammar of Gemma 4's templates in short: thoughts only after the last user turn, tool calls
// and responses inside the model's turn, which stays open for them. The large models' prompt ends
// with an empty thought unless thinking is on; the small models' does not.
std::string gemma4_template(bool large) {
  return std::string(R"({{ bos_token }}
{%- set ns = namespace(last=-1, open=false) -%}
{%- for m in messages -%}{%- if m['role'] == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- if enable_thinking -%}{{ '<|turn>system\n<|think|>\n<turn|>\n' }}{%- endif -%}
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}{{ '<|turn>user\n' + m['content'] + '<turn|>\n' }}
{%- elif m['role'] == 'assistant' -%}
{%- if not ns.open -%}{{ '<|turn>model\n' }}{%- endif -%}{%- set ns.open = true -%}
{%- if m['reasoning'] and loop.index0 > ns.last -%}{{ '<|channel>thought\n' + m['reasoning'] + '\n<channel|>' }}{%- endif -%}
{%- for c in m['tool_calls'] or [] -%}{{ '<|tool_call>call:' + c['function']['name'] + '{}<tool_call|>' }}{%- endfor -%}
{%- if m['tool_calls'] -%}{%- if loop.last -%}{{ '<|tool_response>' }}{%- endif -%}
{%- else -%}{{ m['content'] + '<turn|>\n' }}{%- set ns.open = false -%}{%- endif -%}
{%- elif m['role'] == 'tool' -%}{{ '<|tool_response>response:f{value:<|"|>' + m['content'] + '<|"|>}<tool_response|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not ns.open -%}{{ '<|turn>model\n' }}
{%- if LARGE and not enable_thinking -%}{{ '<|channel>thought\n<channel|>' }}{%- endif -%}
{%- endif -%})")
      .replace(0, 0, large ? "{%- set LARGE = true -%}" : "{%- set LARGE = false -%}");
}

class Flavours : public Examples, public testing::WithParamInterface<bool> {
 protected:
  Flavours() { metadata_.chat_template = gemma4_template(GetParam()); }
  // Token by token: `parts` alternate between what is only read and what is learned.
  void expect_mask(const Example& e, const std::vector<std::string>& parts) const {
    std::vector<int32_t> ids, labels;
    for (size_t i = 0; i < parts.size(); ++i)
      for (const int32_t id :
           model_->tokenizer().encode(parts[i], {.add_special = false, .parse_special = true})) {
        ids.push_back(id);
        labels.push_back(i % 2 ? id : kNotLearned);
      }
    EXPECT_EQ(e.ids, ids) << text(e);
    EXPECT_EQ(e.labels, labels) << text(e) << "\nlearned: " << learned(e);
  }
  std::string empty_thought() const { return GetParam() ? "<|channel>thought\n<channel|>" : ""; }
};

TEST_P(Flavours, MasksOneTurnOfEveryFormAlike) {
  for (const char* line : kOneTurnInEveryForm) {
    const ExampleSet set = make(line);
    ASSERT_EQ(set.examples.size(), 1u);
    expect_mask(set.examples[0],
                {"<bos><|turn>user\nQ<turn|>\n<|turn>model\n" + empty_thought(), "A<turn|>\n"});
  }
}

TEST_P(Flavours, MasksToolResponsesAndLearnsCallsAndTheHandOver) {
  const std::string question = "<bos><|turn>user\nQ<turn|>\n<|turn>model\n";
  const std::string call = "<|tool_call>call:f{}<tool_call|><|tool_response>";
  const std::string response = "response:f{value:<|\"|>21<|\"|>}<tool_response|>";
  for (
      const char* line : {
          R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}, {"role": "tool", "content": "21"}, {"role": "assistant", "content": "It is 21."}]})",
          R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}, {"from": "observation", "value": "21"}, {"from": "gpt", "value": "It is 21."}]})",
      }) {
    const ExampleSet set = make(line);
    if (!GetParam()) {
      ASSERT_EQ(set.examples.size(), 1u);
      expect_mask(set.examples[0], {question, call, response, "It is 21.<turn|>\n"});
      continue;
    }
    // The large models' first prompt has a thought that history drops: two examples.
    ASSERT_EQ(set.examples.size(), 2u);
    expect_mask(set.examples[0], {question + empty_thought(), call});
    expect_mask(set.examples[1], {question + call + response, "It is 21.<turn|>\n"});
  }
}

TEST_P(Flavours, LearnsEveryTurnOfEitherForm) {
  for (
      const char* line : {
          R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}, {"role": "assistant", "content": "B"}]})",
          R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}, {"from": "human", "value": "R"}, {"from": "gpt", "value": "B"}]})",
      }) {
    const ExampleSet set = make(line);
    const std::string first = "<bos><|turn>user\nQ<turn|>\n<|turn>model\n";
    const std::string second = "<|turn>user\nR<turn|>\n<|turn>model\n";
    if (!GetParam()) {
      expect_mask(set.examples.at(0), {first, "A<turn|>\n", second, "B<turn|>\n"});
      continue;
    }
    ASSERT_EQ(set.examples.size(), 2u);
    expect_mask(set.examples[0], {first + empty_thought(), "A<turn|>\n"});
    expect_mask(set.examples[1], {first + "A<turn|>\n" + second + empty_thought(), "B<turn|>\n"});
  }
}

TEST_P(Flavours, LearnsThoughtsWhereTheDataHaveThem) {
  const ExampleSet set = make(
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "reasoning": "hmm", "content": "A"}, {"role": "user", "content": "R"}, {"role": "assistant", "reasoning": "so", "content": "B"}]})");
  const std::string begin =
      "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nQ<turn|>\n<|turn>model\n";
  ASSERT_EQ(set.examples.size(), 2u);  // the second turn is asked without the first thought
  expect_mask(set.examples[0], {begin, "<|channel>thought\nhmm\n<channel|>A<turn|>\n"});
  expect_mask(set.examples[1], {begin + "A<turn|>\n<|turn>user\nR<turn|>\n<|turn>model\n",
                                "<|channel>thought\nso\n<channel|>B<turn|>\n"});
}

INSTANTIATE_TEST_SUITE_P(SmallAndLarge, Flavours, testing::Bool());

TEST_F(Examples, RefusesConversationsItCannotRender) {
  metadata_.chat_template =
      "{% for m in messages %}{{ loop.length }}{{ m['content'] }}{% endfor %}";
  EXPECT_THROW(make(kTwoTurns), Error);
  metadata_.chat_template.clear();
  try {
    make("{\"text\": \"fine\"}\n" + std::string(kTwoTurns));
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("line 2"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("no chat template"), std::string::npos);
  }
}

}  // namespace
}  // namespace lapidary
