// Replies of each family taken apart: well-formed, sloppy, broken, hostile, and cut anywhere.
#include "runtime/text/reply_parser.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace lapidary {
namespace {

using Kind = ReplyDelta::Kind;
using F = ReplyFormat;

// Deltas with neighbours of one kind put together, which no cutting may change.
std::vector<ReplyDelta> deltas_of(F format, const std::vector<std::string_view>& pieces) {
  const auto parser = ReplyParser::make(format);
  std::vector<ReplyDelta> out, merged;
  for (const std::string_view piece : pieces) parser->push(piece, out);
  parser->finish(out);
  for (const ReplyDelta& d : out)
    if (!merged.empty() && merged.back().kind == d.kind && merged.back().call_index == d.call_index)
      merged.back().text += d.text;
    else
      merged.push_back(d);
  return merged;
}

std::string printed(const Reply& r) {
  std::string text;
  if (!r.reasoning.empty()) text += "thought[" + r.reasoning + "]";
  text += r.content;
  for (const Reply::Call& c : r.calls)
    text += "|" + c.name + " " + c.arguments_json + (c.is_complete ? "" : " CUT");
  return text;
}

std::string parsed(F format, std::string_view text, std::string_view tail = {}) {
  return printed(parse_reply(format, text, tail));
}

struct Case {
  F format;
  const char* text;
  const char* expected;
};

const Case kCases[] = {
    {F::kPlain, " <think>a</think> \n", " <think>a</think> \n"},

    {F::kGemma4, "Hello, world.\n", "Hello, world.\n"},
    {F::kGemma4, "<|channel>thought\nhmm\n<channel|>\n\nIt is 4.", "thought[hmm]It is 4."},
    {F::kGemma4, "<|channel>thought\n<channel|>It is 4.", "It is 4."},
    {F::kGemma4, "<|channel>thoughtful<channel|>x", "thought[thoughtful]x"},
    {F::kGemma4, "It <channel|>is 4.", "It is 4."},
    {F::kGemma4, "a < b <| c <|channe", "a < b <| c <|channe"},
    {F::kGemma4, "<|channel>thought\ncut off", "thought[cut off]"},
    {F::kGemma4, "<|channel>thought\na\n<channel|><|channel>thought\nb\n<channel|>c",
     "thought[a\nb]c"},
    {F::kGemma4,
     "<|tool_call>call:get_weather{city:<|\"|>Paris, \"FR\"<|\"|>,days:3,opt:{deep:true},"
     "tags:[<|\"|>a<|\"|>,<|\"|>b<|\"|>],unit:<|\"|>c<|\"|>,x:1.5,z:null}<tool_call|>"
     "<|tool_response>",
     R"(|get_weather {"city":"Paris, \"FR\"","days":3,"opt":{"deep":true},"tags":["a","b"],)"
     R"("unit":"c","x":1.5,"z":null})"},
    {F::kGemma4,
     "Two:\n<|tool_call>call:a{}<tool_call|><|tool_call>call:b{k:<|\"|>v<|\"|>}<tool_call|>\n",
     R"(Two:|a {}|b {"k":"v"})"},
    {F::kGemma4, "a \n<|tool_call>call:f{}<tool_call|> b\n", "a \n b\n|f {}"},
    {F::kGemma4, "<|channel>thought\nI call<|tool_call>call:f{x:1}<tool_call|>",
     "thought[I call]|f {\"x\":1}"},
    // Strings hold anything but the two tokens.
    {F::kGemma4, "<|tool_call>call:f{s:<|\"|>{a:[1,\"}\\\n\t<|<tool_<|\"|>}<tool_call|>",
     R"(|f {"s":"{a:[1,\"}\\\n\t<|<tool_"})"},
    {F::kGemma4, "<|tool_call>call:f{s:<|\"|><|\"|>,t:<|\"|>é😊\x01<|\"|>}<tool_call|>",
     "|f {\"s\":\"\",\"t\":\"é😊\\u0001\"}"},
    {F::kGemma4, "<|tool_call>call:f{a:[[],[[1,-2.5e+3],{}],{b:[]}]}<tool_call|>",
     R"(|f {"a":[[],[[1,-2.5e+3],{}],{"b":[]}]})"},
    // Slips that are understood.
    {F::kGemma4,
     "<|tool_call>call: f { \"a b\" : \"x\\n\\u00e9\" , c d: New York ,e:01,}<tool_call|>",
     R"(|f {"a b":"x\n\u00e9","c d":"New York","e":"01"})"},
    {F::kGemma4, "<|tool_call>call:f{<|\"|>a<|\"|>:None,b:[True,False,],}<tool_call|>",
     R"(|f {"a":null,"b":[true,false]})"},
    {F::kGemma4, "<|tool_call>call:f{a:{b:[1,2<tool_call|>ok", R"(ok|f {"a":{"b":[1,2]}})"},
    {F::kGemma4, "<|tool_call>call:f{a:1}", R"(|f {"a":1})"},
    {F::kGemma4, "<|tool_call>call:f{s:\"\\ud83d\\ude0a \\ud83d! \\ude0a\"}<tool_call|>",
     R"(|f {"s":"\ud83d\ude0a \ufffd! \ufffd"})"},
    // No calls at all.
    {F::kGemma4, "<|tool_call>f{a:1}<tool_call|>", "<|tool_call>f{a:1}"},
    {F::kGemma4, "<|tool_call>call:{a:1}", "<|tool_call>call:{a:1}"},
    {F::kGemma4, "<|tool_call>call:f", "<|tool_call>call:f"},
    {F::kGemma4, "<|tool_call>", "<|tool_call>"},
    // Broken behind a good beginning.
    {F::kGemma4, "<|tool_call>call:f{a:<|\"|>half a str", R"(|f {"a":"half a str CUT)"},
    {F::kGemma4, "<|tool_call>call:f{a:<|\"|>half<tool_call|>b",
     R"(|f {"a":"half<tool_call|>b CUT)"},
    {F::kGemma4, "<|tool_call>call:f{a:[1}} so", R"(}} so|f {"a":[1 CUT)"},
    {F::kGemma4, "<|tool_call>call:f{a:<tool_call|>", R"(|f {"a": CUT)"},
    {F::kGemma4, "<|tool_call>call:f{a:12", R"(|f {"a": CUT)"},

    {F::kFunctionGemma,
     "<start_function_call>call:set{on:true,room:<escape>bed \"1\"<escape>}<end_function_call>"
     "<start_function_response>",
     R"(|set {"on":true,"room":"bed \"1\""})"},
    {F::kFunctionGemma, "<|channel>plain <escape>", "<|channel>plain <escape>"},

    {F::kQwen3, "<think>\n\n</think>\n\nHi.", "Hi."},
    {F::kQwen3, "<think>\nLet me <tool_call> see.\n</think>\n\n  Hi.",
     "thought[Let me <tool_call> see.]Hi."},
    {F::kQwen3,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, {\"b\": \"}\\\"</tool_call>\"}]}}\n"
     "</tool_call>",
     R"(|f {"a": [1, {"b": "}\"</tool_call>"}]})"},
    {F::kQwen3,
     "ok\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
     "{}}\n</tool_call>\n<tool_call>\n{\"arguments\": "
     "{\"x\":-1.5}, \"id\": [1], \"name\": \"g\"}\n</tool_call>",
     R"(ok|f {}|g {"x":-1.5})"},
    {F::kQwen3, "<tool_call>{\"name\":\"f\"}</tool_call>", "|f {}"},
    {F::kQwen3, "<tool_call>{\"name\":\"f\",\"arguments\":null}</tool_call>", "|f {}"},
    {F::kQwen3, R"(<tool_call>{"name":"f","arguments":"{\"a\": \"b\"}"}</tool_call>)",
     R"(|f {"a": "b"})"},
    {F::kQwen3, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":{\"b\":[1</tool_call>x",
     R"(x|f {"a":{"b":[1]}})"},
    {F::kQwen3, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"line\nbreak\"}}</tool_call>",
     R"(|f {"a":"line\nbreak"})"},
    {F::kQwen3, "<tool_call>not json</tool_call>", "<tool_call>not json"},
    {F::kQwen3, "<tool_call>{\"name\": \"f", "<tool_call>{\"name\": \"f"},
    {F::kQwen3, "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>",
     "<tool_call>{\"name\": 5, \"arguments\": {}}"},
    {F::kQwen3, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":tru}}</tool_call>",
     "}}|f {\"a\": CUT"},
    {F::kQwen3, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"ha", R"(|f {"a":"ha CUT)"},

    {F::kLlama3, "Hello {\"name\": \"f\", \"parameters\": {}}",
     "Hello {\"name\": \"f\", \"parameters\": {}}"},
    {F::kLlama3, "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", R"(|f {"a": "b"})"},
    {F::kLlama3,
     "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"n\": 5}}",
     R"(|f {"n": 5})"},
    {F::kLlama3,
     "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"arguments\": {\"a\": [null]}}\n",
     R"(|f {}|g {"a": [null]})"},
    {F::kLlama3, "{\"name\": \"Ann\", \"age\": 5}", "{\"name\": \"Ann\", \"age\": 5}"},
    {F::kLlama3, "{\"name\": \"Ann\"}", "{\"name\": \"Ann\"}"},
    {F::kLlama3, "{\"city\"", "{\"city\""},
    {F::kLlama3, "<|python_tag|>print(1)", "<|python_tag|>print(1)"},
    {F::kLlama3, "<|python_tag|>", "<|python_tag|>"},
    {F::kLlama3, "{\"name\": \"f\", \"parameters\": {\"a\": ", R"(|f {"a":  CUT)"},
};

TEST(ReplyParser, TakesRepliesApart) {
  for (const Case& c : kCases) EXPECT_EQ(parsed(c.format, c.text), c.expected) << c.text;
}

TEST(ReplyParser, GoesOnWithAThoughtThatThePromptOpened) {
  EXPECT_EQ(parsed(F::kGemma4, "so\n<channel|>4", "<tool_response|><|channel>thought\n"),
            "thought[so]4");
  EXPECT_EQ(parsed(F::kGemma4, "4", "<|channel>thought\n<channel|>"), "4");
  EXPECT_EQ(parsed(F::kQwen3, "so\n</think>\n4", "<|im_start|>assistant\n<think>\n"),
            "thought[so]4");
  EXPECT_EQ(parsed(F::kQwen3, "4", "<think>\n\n</think>\n\n"), "4");
}

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// Replies of random fragments of the grammar are broken somewhere, mostly.
const std::string& random_fragment(std::mt19937& random) {
  static const std::vector<std::string> fragments{"<|channel>",
                                                  "thought\n",
                                                  "<channel|>",
                                                  "<|tool_call>",
                                                  "call:",
                                                  "f{",
                                                  "a:",
                                                  "<|\"|>",
                                                  "}",
                                                  "<tool_call|>",
                                                  "<|tool_response>",
                                                  "[",
                                                  "]",
                                                  "{",
                                                  ",",
                                                  "1.5",
                                                  "\"",
                                                  "\\",
                                                  "u00e9",
                                                  "\\ud83d",
                                                  "<start_function_call>",
                                                  "<end_function_call>",
                                                  "<escape>",
                                                  "<think>",
                                                  "</think>",
                                                  "\n",
                                                  " ",
                                                  "<tool_call>",
                                                  "</tool_call>",
                                                  "{\"name\": \"f\", ",
                                                  "\"arguments\": {",
                                                  "\"parameters\": {",
                                                  "\"k\": ",
                                                  "true",
                                                  "null",
                                                  "<|python_tag|>",
                                                  ";",
                                                  "<",
                                                  "<|",
                                                  "é",
                                                  "😊",
                                                  "text",
                                                  "\x01"};
  return fragments[random() % fragments.size()];
}
std::string random_reply(std::mt19937& random) {
  std::string text;
  for (size_t n = 1 + random() % 24; n > 0; --n) text += random_fragment(random);
  return text;
}

TEST(ReplyParser, GivesTheSameForAnyCutting) {
  std::mt19937 random(1);
  size_t n_calls = 0;
  for (int round = 0; round < 20'000; ++round) {
    F format = static_cast<F>(random() % 5);
    std::string text = random_reply(random);
    if (round % 2 == 0) {
      const Case& c = kCases[random() % std::size(kCases)];
      format = c.format;
      const std::string_view good = c.text;
      size_t at = random() % (good.size() + 1);
      while (at < good.size() && !starts_character(good[at])) ++at;
      text = std::string(good.substr(0, at)) +
             (random() % 2 == 0 ? random_fragment(random) : std::string()) +
             std::string(good.substr(at));
    }
    const auto whole = deltas_of(format, {text});
    std::vector<std::string_view> pieces, bytes;
    for (size_t at = 0; at < text.size();) {
      size_t n = 1 + random() % 8;
      while (at + n < text.size() && !starts_character(text[at + n])) ++n;
      pieces.push_back(std::string_view(text).substr(at, n));
      at += n;
    }
    for (size_t at = 0; at < text.size(); ++at)
      bytes.push_back(std::string_view(text).substr(at, 1));
    for (const auto& cut : {pieces, bytes}) {
      const auto again = deltas_of(format, cut);
      ASSERT_EQ(again.size(), whole.size()) << text;
      for (size_t i = 0; i < whole.size(); ++i) {
        ASSERT_EQ(again[i].kind, whole[i].kind) << text;
        ASSERT_EQ(again[i].text, whole[i].text) << text;
        ASSERT_EQ(again[i].call_index, whole[i].call_index) << text;
      }
    }
    Reply reply;
    for (const ReplyDelta& d : whole) reply.add(d);
    for (const Reply::Call& c : reply.calls)
      if (c.is_complete) {
        ++n_calls;
        const auto json = nlohmann::json::parse(c.arguments_json, nullptr, false);
        ASSERT_TRUE(json.is_object()) << c.arguments_json << "\nof " << text;
      }
  }
  EXPECT_GT(n_calls, 1000u);
}

TEST(ReplyParser, StreamsArgumentsAsTheyCome) {
  const auto parser = ReplyParser::make(F::kGemma4);
  std::vector<ReplyDelta> out;
  parser->push("<|tool_call>call:f{city:<|\"|>Par", out);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].kind, Kind::kCallBegin);
  EXPECT_EQ(out[0].text, "f");
  EXPECT_EQ(out[1].text, "{\"city\":\"Par");
  out.clear();
  const auto qwen = ReplyParser::make(F::kQwen3);
  qwen->push("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Par", out);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[1].text, "{\"city\": \"Par");
}

TEST(ReplyParser, SurvivesDepth) {
  const std::string deep(100'000, '[');
  for (const auto& [format, head] :
       {std::pair(F::kGemma4, "<|tool_call>call:f{a:"),
        std::pair(F::kQwen3, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":"),
        std::pair(F::kQwen3, "<tool_call>{\"x\":"),
        std::pair(F::kLlama3, "{\"name\":\"f\",\"parameters\":{\"a\":")}) {
    const Reply reply = parse_reply(format, head + deep);
    EXPECT_TRUE(reply.calls.empty() || !reply.calls[0].is_complete);
    EXPECT_GT(reply.content.size(), 99'000u);
  }
}

TEST(ReplyParser, TakesLinearTime) {
  // A megabyte, byte by byte, where everything is held back: quadratic work would take minutes.
  for (const auto& [format, head] :
       {std::pair(F::kQwen3, "<tool_call>{\"arguments\":{\"a\":\""),
        std::pair(F::kGemma4, "<|tool_call>call:f{a:"), std::pair(F::kQwen3, "")}) {
    const auto parser = ReplyParser::make(format);
    std::vector<ReplyDelta> out;
    parser->push(head, out);
    const char one = *head == '\0' ? ' ' : 'x';
    for (int i = 0; i < 1 << 20; ++i) parser->push({&one, 1}, out);
    parser->finish(out);
    EXPECT_LT(out.size(), 5u);
  }
}

TEST(ReplyParser, KnowsTheFamilyByItsTemplate) {
  EXPECT_EQ(reply_format("{{ '<|turn>user' }}"), F::kGemma4);
  EXPECT_EQ(reply_format("... <start_function_call>call: ..."), F::kFunctionGemma);
  EXPECT_EQ(reply_format("<|start_header_id|> <|python_tag|>"), F::kLlama3);
  EXPECT_EQ(reply_format("<|im_start|> <tool_call> <think>"), F::kQwen3);
  EXPECT_EQ(reply_format("<start_of_turn>"), F::kPlain);
}

}  // namespace
}  // namespace lapidary
