// Calls that a template writes into the history are what the parser reads out of a reply: so a
// model sees its calls again as it made them, and the parser knows each family's spelling.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "formats/file.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/reply_parser.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using nlohmann::json;

json random_value(std::mt19937& random, int depth) {
  static const char* kTexts[] = {"",   "Paris, \"FR\"", "a\\b\n\tc", "{x:[1]}",  "é 漢 😊", "true",
                                 "12", "</x>",          "it's <b>",  " spaced ", "a,b:c}", "\x01"};
  switch (random() % (depth > 2 ? 6 : 8)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<int64_t>(random()) - (int64_t{1} << 31);
    case 3:
      return std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 80) - 60);
    case 6: {
      json list = json::array();
      for (auto n = random() % 4; n > 0; --n) list.push_back(random_value(random, depth + 1));
      return list;
    }
    case 7: {
      json object = json::object();
      for (auto n = random() % 4; n > 0; --n)
        object["key_" + std::to_string(random() % 9)] = random_value(random, depth + 1);
      return object;
    }
    default:
      return kTexts[random() % std::size(kTexts)];
  }
}

// A turn of FunctionGemma's grammar, as far as calls go.
const char* kFunctionGemma = R"({%- macro value(v) -%}
{%- if v is string -%}<escape>{{ v }}<escape>
{%- elif v is boolean -%}{{ 'true' if v else 'false' }}
{%- elif v is mapping -%}{ {%- for k in v | dictsort -%}{{ k[0] }}:{{ value(k[1]) }}{{ ',' if not loop.last }}{%- endfor -%} }
{%- elif v is iterable -%}[{%- for x in v -%}{{ value(x) }}{{ ',' if not loop.last }}{%- endfor -%}]
{%- else -%}{{ v }}{%- endif -%}
{%- endmacro -%}
{%- for m in messages -%}{%- for c in m['tool_calls'] or [] -%}
<start_function_call>call:{{ c['function']['name'] }}{{ value(c['function']['arguments']) }}<end_function_call>
{%- endfor -%}{%- endfor -%})";

// The first golden template that writes `sign`.
std::string golden_template(std::string_view sign) {
  const auto golden = json::parse(read_text(data_path("text/jinja_cases.json")));
  for (const auto& c : golden["cases"])
    if (const std::string source = c["template"]; source.find(sign) != std::string::npos)
      return source;
  return {};
}

// What the template writes for one assistant's turn, between `begin` and `end`.
Reply read_back(const std::string& source, const json& calls, std::string_view begin,
                std::string_view end) {
  ChatRequest request;
  request.messages_json =
      json::array({{{"role", "user"}, {"content", "go"}},
                   {{"role", "assistant"}, {"content", ""}, {"tool_calls", calls}}})
          .dump();
  request.add_generation_prompt = false;
  request.extra_json = R"({"date_string": "today"})";
  const std::string text = ChatTemplate(source).render(request, "<bos>", "<eos>");
  const size_t at = begin.empty() ? 0 : text.rfind(begin) + begin.size();
  const size_t to = end.empty() ? text.size() : text.find(end, at);
  return parse_reply(reply_format(source), std::string_view(text).substr(at, to - at));
}

struct Family {
  const char* name;
  ReplyFormat format;
  std::string source;
  const char *begin, *end;
  bool is_parallel;
};

TEST(ReplyAndTemplate, CallsComeBackAsTheyWere) {
  const Family families[] = {
      {"gemma4", ReplyFormat::kGemma4, read_text(data_path("nano-e/chat_template.jinja")),
       "<|turn>model\n", "<turn|>", true},
      {"function gemma", ReplyFormat::kFunctionGemma, kFunctionGemma, "", "", true},
      {"llama3", ReplyFormat::kLlama3, golden_template("<|start_header_id|>ipython"),
       "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", false},
      {"qwen3", ReplyFormat::kQwen3, golden_template("<tool_call>"), "<|im_start|>assistant\n",
       "<|im_end|>", true}};
  std::mt19937 random(1);
  for (const Family& family : families) {
    ASSERT_EQ(reply_format(family.source), family.format) << family.name;
    for (int round = 0; round < 500; ++round) {
      json calls = json::array();
      for (size_t n = family.is_parallel ? 1 + random() % 3 : 1; n > 0; --n) {
        json arguments = json::object();
        for (auto k = random() % 5; k > 0; --k)
          arguments["Key" + std::to_string(random() % 9)] = random_value(random, 0);
        calls.push_back(
            {{"type", "function"},
             {"function", {{"name", "tool_" + std::to_string(n)}, {"arguments", arguments}}}});
      }
      const Reply reply = read_back(family.source, calls, family.begin, family.end);
      ASSERT_EQ(reply.calls.size(), calls.size()) << family.name << calls;
      EXPECT_EQ(reply.content, "") << family.name;
      for (size_t i = 0; i < calls.size(); ++i) {
        EXPECT_TRUE(reply.calls[i].is_complete);
        EXPECT_EQ(reply.calls[i].name, calls[i]["function"]["name"]);
        EXPECT_EQ(json::parse(reply.calls[i].arguments_json), calls[i]["function"]["arguments"])
            << family.name;
      }
    }
  }
}

}  // namespace
}  // namespace lapidary
