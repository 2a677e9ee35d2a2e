// What is learned under the templates of Llama 3 and Qwen3, token by token, for every form of data;
// Gemma's are in examples_test.cpp. With a small tokenizer that has the families' special tokens,
// and with the real ones where they are at hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "finetune/examples.h"
#include "finetune/token_row.h"
#include "formats/file.h"
#include "tests/runtime/text/tokenizer_fixture.h"

namespace lapidary {
namespace {

// nano-e's tokenizer with other names for some special tokens, which no merge then makes.
std::string renamed(const std::map<std::string, std::string>& names) {
  auto json = nlohmann::json::parse(nano_json());
  for (auto& token : json["added_tokens"])
    if (const auto to = names.find(token["content"]); to != names.end())
      token["content"] = to->second;
  auto& model = json["model"];
  for (const auto& [from, to] : names) {
    model["vocab"][to] = model["vocab"][from];
    model["vocab"].erase(from);
  }
  // Merges that make such a token or use one.
  const auto concerns = [&](const nlohmann::json& m) {
    std::string left, right;
    if (m.is_array()) {
      left = m[0], right = m[1];
    } else {
      const std::string both = m;
      left = both.substr(0, both.find(' ')), right = both.substr(left.size() + 1);
    }
    return names.count(left) + names.count(right) + names.count(left + right) > 0;
  };
  auto& merges = model["merges"];
  merges.erase(std::remove_if(merges.begin(), merges.end(), concerns), merges.end());
  return json.dump();
}

// The template of the collection that writes `sign`.
std::string golden_template(std::string_view sign) {
  const auto golden = nlohmann::json::parse(read_text(data_path("text/jinja_cases.json")));
  for (const auto& c : golden["cases"])
    if (const std::string source = c["template"]; source.find(sign) != std::string::npos)
      return source;
  return {};
}

struct Family {
  std::string chat_template;
  std::string small;  // tokenizer.json
  const char* real;   // a file of shared/tokenizers
  int64_t real_vocab;
};

Family family(const std::string& name) {
  if (name == "gemma")
    return {read_text(data_path("nano-e/chat_template.jinja")), nano_json(), nullptr, 0};
  if (name == "llama3")
    return {"{%- set date_string = 'today' %}" + golden_template("<|start_header_id|>ipython"),
            renamed({{"<|turn>", "<|start_header_id|>"},
                     {"<turn|>", "<|end_header_id|>"},
                     {"<|channel>", "<|eot_id|>"}}),
            "llama3", 128256};
  return {golden_template("<tool_call>"),
          renamed({{"<|turn>", "<|im_start|>"},
                   {"<turn|>", "<|im_end|>"},
                   {"<|channel>", "<think>"},
                   {"<channel|>", "</think>"},
                   {"<|tool_call>", "<tool_call>"},
                   {"<tool_call|>", "</tool_call>"}}),
          "qwen2_5", 151665};
}

// Compiled once: the real ones are large.
const Tokenizer* tokenizer_of(const std::string& name, bool real) {
  static std::map<std::pair<std::string, bool>, std::unique_ptr<Tokenizer>> made;
  auto& tokenizer = made[{name, real}];
  if (tokenizer) return tokenizer.get();
  const Family f = family(name);
  if (!f.real) real = false;
  const std::string path =
      real ? shared_path("tokenizers/" + std::string(f.real) + ".tokenizer.json.xz") : "";
  if (real && path.empty()) return nullptr;
  const std::string json = real ? decompress_xz(path) : f.small;
  if (json.empty()) return nullptr;
  tokenizer =
      std::make_unique<Tokenizer>(Tokenizer::from_json(json, real ? f.real_vocab : kNanoVocab));
  return tokenizer.get();
}

class Masks : public testing::TestWithParam<bool> {
 protected:
  bool prepare(const std::string& name) {
    tokenizer_ = tokenizer_of(name, GetParam());
    metadata_.chat_template = family(name).chat_template;
    metadata_.config.bos_id =
        name != "qwen3" && tokenizer_ ? tokenizer_->bos_id().value_or(-1) : -1;
    bos_ = metadata_.config.bos_id < 0 ? "" : tokenizer_->piece(metadata_.config.bos_id);
    return tokenizer_;
  }
  std::vector<Example> make(const std::string& line) const {
    const ExampleMaker maker(*tokenizer_, metadata_, {});
    std::vector<Example> examples;
    ExampleCounts counts;
    maker.make(parse_record(line), counts, [&](Example e) { examples.push_back(std::move(e)); });
    return examples;
  }
  // `parts` alternate between what is only read and what is learned. The tokens are those of the
  // whole text; each is learned when it lies in a learned part.
  void expect_mask(const Example& e, const std::vector<std::string>& parts) const {
    const std::string whole = std::accumulate(parts.begin(), parts.end(), std::string());
    EXPECT_EQ(tokenizer_->decode(e.ids), whole);
    EXPECT_EQ(e.ids, tokenizer_->encode(whole, {.add_special = false, .parse_special = true}));
    size_t at = 0, part = 0, end = parts[0].size();
    for (size_t i = 0; i < e.ids.size(); ++i) {
      while (at >= end && part + 1 < parts.size()) end += parts[++part].size();
      EXPECT_EQ(e.labels[i], part % 2 ? e.ids[i] : kNotLearned)
          << "token " << i << " of " << whole << ": "
          << tokenizer_->decode(std::span(&e.ids[i], 1));
      at = tokenizer_->decode(std::span(e.ids).first(i + 1)).size();
      EXPECT_LE(at, end) << "token " << i << " spans a border";
    }
  }
  // A user's turn and the beginning of the answer, in either family's spelling.
  static std::string ask(const std::string& text) {
    return "<|start_header_id|>user<|end_header_id|>\n\n" + text + kEnd + kAnswer;
  }
  std::string head(const std::string& system = "") const {
    return bos_ + "<|start_header_id|>system<|end_header_id|>\n\nToday: today\n\n" + system + kEnd;
  }
  static std::string qwen(const std::string& role, const std::string& text) {
    return "<|im_start|>" + role + "\n" + text + "<|im_end|>\n";
  }

  static constexpr const char* kEnd = "<|eot_id|>";
  static constexpr const char* kAnswer = "<|start_header_id|>assistant<|end_header_id|>\n\n";
  static constexpr const char* kModel = "<|im_start|>assistant\n";
  static constexpr const char* kNoThought = "<think>\n\n</think>\n\n";
  const Tokenizer* tokenizer_ = nullptr;
  ModelMetadata metadata_;
  std::string bos_;
};

#define LAPIDARY_PREPARE(name) \
  if (!prepare(name)) GTEST_SKIP() << "no real tokenizers here; set LAPIDARY_SHARED"

// One question, as each form has it; with system text where the form has a place for it.
const char* const kOneTurn[] = {
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]})",
    R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]})",
    R"({"instruction": "Q", "input": "", "output": "A"})",
    R"({"prompt": "Q", "completion": "A"})",
    R"({"task": "t", "user": "Q", "answer": "A"})",
};
const char* const kWithSystem[] = {
    R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "I\n\nX"}, {"role": "assistant", "content": "A"}]})",
    R"({"conversations": [{"from": "human", "value": "I\n\nX"}, {"from": "gpt", "value": "A"}], "system": "S"})",
    R"({"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "I\n\nX"}, {"from": "gpt", "value": "A"}]})",
    R"({"instruction": "I", "input": "X", "output": "A", "system": "S"})",
    R"({"prompt": "I\n\nX", "completion": "A", "system": "S"})",
    R"({"task": "t", "user": "I\n\nX", "answer": "A", "system": "S"})",
};
const char* const kSeveralTurns[] = {
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}, {"role": "assistant", "content": "B"}]})",
    R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}, {"from": "user", "value": "R"}, {"from": "assistant", "value": "B"}]})",
};
// A call, its result, the answer; arguments as an object and as a string of JSON.
const char* const kWithTools[] = {
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}, {"role": "tool", "content": "21"}, {"role": "assistant", "content": "It is 21."}]})",
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}, {"role": "tool", "content": "21"}, {"role": "assistant", "content": "It is 21."}]})",
    R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}, {"from": "observation", "value": "21"}, {"from": "gpt", "value": "It is 21."}]})",
};
// Under each name that thoughts go by.
const char* const kWithThoughts[] = {
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "reasoning": "hmm", "content": "A"}]})",
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "reasoning_content": "hmm", "content": "A"}]})",
};

// Gemma's other cases are in examples_test.cpp.
TEST_P(Masks, GemmaWithSystemText) {
  LAPIDARY_PREPARE("gemma");
  for (const char* line : kWithSystem)
    expect_mask(
        make(line).at(0),
        {"<bos><|turn>system\nS<turn|>\n<|turn>user\nI\n\nX<turn|>\n<|turn>model\n", "A<turn|>\n"});
}

TEST_P(Masks, Llama3) {
  LAPIDARY_PREPARE("llama3");
  const std::string end = kEnd;
  for (const char* line : kOneTurn) expect_mask(make(line).at(0), {head() + ask("Q"), "A" + end});
  for (const char* line : kWithSystem)
    expect_mask(make(line).at(0), {head("S") + ask("I\n\nX"), "A" + end});
  for (const char* line : kSeveralTurns)
    expect_mask(make(line).at(0), {head() + ask("Q"), "A" + end, ask("R"), "B" + end});
  for (const char* line : kWithTools)
    expect_mask(make(line).at(0),
                {head() + ask("Q"), R"({"name": "f", "parameters": {"x": 1}})" + end,
                 "<|start_header_id|>ipython<|end_header_id|>\n\n\"21\"" + end + kAnswer,
                 "It is 21." + end});
  for (const char* line : kWithThoughts)  // the family's template has no place for them
    expect_mask(make(line).at(0), {head() + ask("Q"), "A" + end});
}

// The template puts an empty thought before the last answer, and none into the prompt: the model
// writes it. Earlier answers stand without, so every turn is an example of its own.
TEST_P(Masks, Qwen3) {
  LAPIDARY_PREPARE("qwen3");
  const std::string none = kNoThought, end = "<|im_end|>\n";
  for (const char* line : kOneTurn)
    expect_mask(make(line).at(0), {qwen("user", "Q") + kModel, none + "A" + end});
  for (const char* line : kWithSystem)
    expect_mask(make(line).at(0),
                {qwen("system", "S") + qwen("user", "I\n\nX") + kModel, none + "A" + end});
  for (const char* line : kSeveralTurns) {
    const std::vector<Example> examples = make(line);
    ASSERT_EQ(examples.size(), 2u);
    expect_mask(examples[0], {qwen("user", "Q") + kModel, none + "A" + end});
    expect_mask(examples[1],
                {qwen("user", "Q") + qwen("assistant", "A") + qwen("user", "R") + kModel,
                 none + "B" + end});
  }
  for (const char* line : kWithTools) {
    const std::vector<Example> examples = make(line);
    ASSERT_EQ(examples.size(), 2u);
    const std::string call =
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    expect_mask(examples[0], {qwen("user", "Q") + kModel, none + call + end});
    expect_mask(examples[1], {qwen("user", "Q") + qwen("assistant", call) +
                                  qwen("user", "<tool_response>\n21\n</tool_response>") + kModel,
                              none + "It is 21." + end});
  }
  for (const char* line : kWithThoughts)
    expect_mask(make(line).at(0),
                {qwen("user", "Q") + kModel, "<think>\nhmm\n</think>\n\nA" + end});
}

// Raw text has no template, and special tokens written in it are text.
TEST_P(Masks, RawTextIsLearnedWhole) {
  for (const std::string name : {"llama3", "qwen3"}) {
    LAPIDARY_PREPARE(name);
    const std::vector<Example> examples = make(R"({"text": "Once upon a time. <|im_end|>"})");
    ASSERT_EQ(examples.size(), 1u);
    EXPECT_EQ(examples[0].labels, examples[0].ids);
    std::vector<int32_t> ids = tokenizer_->encode("Once upon a time. <|im_end|>",
                                                  {.add_special = false, .parse_special = false});
    if (tokenizer_->bos_id()) ids.insert(ids.begin(), *tokenizer_->bos_id());
    EXPECT_EQ(examples[0].ids, ids);
  }
}

// Declared tools are read, never learned.
TEST_P(Masks, DeclaredToolsAreOnlyRead) {
  const std::string line =
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "tools": [{"type": "function", "function": {"name": "f"}}]})";
  for (const std::string name : {"llama3", "qwen3"}) {
    LAPIDARY_PREPARE(name);
    const Example e = make(line).at(0);
    const std::string text = tokenizer_->decode(e.ids);
    EXPECT_NE(text.find("\"f\""), std::string::npos) << text;
    const std::string answer =
        name == "llama3" ? "A<|eot_id|>" : std::string(kNoThought) + "A<|im_end|>\n";
    expect_mask(e, {text.substr(0, text.size() - answer.size()), answer});
  }
}

INSTANTIATE_TEST_SUITE_P(SmallAndReal, Masks, testing::Bool());

}  // namespace
}  // namespace lapidary
