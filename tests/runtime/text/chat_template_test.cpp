// Chat templates against what jinja2 rendered, and against templates that mean harm.
#include "runtime/text/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using nlohmann::ordered_json;

std::string render(const std::string& source, const std::string& context = "{}") {
  return ChatTemplate(source).render_context(context);
}

std::string failure(const std::string& source, const std::string& context = "{}") {
  try {
    return "rendered: " + render(source, context).substr(0, 100);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return e.what();
  }
}

TEST(ChatTemplate, RendersTheReferenceChats) {
  const ChatTemplate chat(read_text(data_path("nano-e/chat_template.jinja")));
  const auto cases = ordered_json::parse(read_text(data_path("nano-e/reference/chats.json")));
  ASSERT_EQ(cases.size(), 4u);
  for (const auto& c : cases) {
    ChatRequest request;
    request.messages_json = c["messages"].dump();
    if (c.contains("tools")) request.tools_json = c["tools"].dump();
    EXPECT_EQ(chat.render(request, "<bos>", "<eos>"), c["text"].get<std::string>());
    request.add_generation_prompt = false;
    EXPECT_EQ(chat.render(request, "<bos>", "<eos>"),
              c["text_without_generation_prompt"].get<std::string>());
  }
}

// tests/data/text/jinja_cases.json, made by make_jinja_cases.py with jinja2.
TEST(ChatTemplate, RendersWhatJinja2Renders) {
  const auto golden = ordered_json::parse(read_text(data_path("text/jinja_cases.json")));
  ASSERT_GE(golden["cases"].size(), 80u);
  for (const auto& c : golden["cases"]) {
    const std::string source = c["template"],
                      context = golden["contexts"][c["context"].get<size_t>()].dump();
    if (c.contains("text"))
      EXPECT_EQ(failure(source, context).substr(0, 5) == "chat " ? failure(source, context)
                                                                 : render(source, context),
                c["text"].get<std::string>())
          << source;
    else
      EXPECT_TRUE(failure(source, context).starts_with("chat template: line "))
          << source << "\njinja2: " << c["error"] << "\nhere: " << failure(source, context);
  }
}

TEST(ChatTemplate, GivesTheVariablesThatTransformersGives) {
  ChatRequest request;
  request.messages_json = "[]";
  request.extra_json = R"({"enable_thinking": true})";
  EXPECT_EQ(
      ChatTemplate("{{ tools is none }} {{ bos_token }} {{ eos_token }} {{ enable_thinking }} "
                   "{{ add_generation_prompt }} {{ missing is defined }}")
          .render(request, "<s>", "</s>"),
      "True <s> </s> True True False");
}

TEST(ChatTemplate, SaysWhereAnErrorIs) {
  EXPECT_TRUE(failure("a\n\n  {{ x.y }}").starts_with("chat template: line 3, column 3: 'x' is"));
  EXPECT_TRUE(failure("a\n{% if %}").starts_with("chat template: line 2, column 7: expected"));
  EXPECT_NE(failure("{{ raise_exception('no, thanks') }}").find("no, thanks"), std::string::npos);
  EXPECT_NE(failure("{% include 'x' %}").find("'include'"), std::string::npos);
  EXPECT_NE(failure("{{ 1|frobnicate }}").find("'frobnicate'"), std::string::npos);
}

TEST(ChatTemplate, RefusesInputThatIsNoChat) {
  const ChatTemplate chat("{{ messages|length }}");
  ChatRequest request;
  for (const char* bad : {"", "{", "{}", "3", "[\"\xff\"]"}) {
    request.messages_json = bad;
    EXPECT_THROW(chat.render(request, "", ""), Error) << bad;
  }
  request.messages_json = "[]";
  request.tools_json = "{}";
  EXPECT_THROW(chat.render(request, "", ""), Error);
  EXPECT_THROW(ChatTemplate("\xff"), Error);
  EXPECT_THROW(ChatTemplate(std::string(2 << 20, ' ')), Error);
}

TEST(ChatTemplate, EndsHostileTemplates) {
  const auto repeated = [](const std::string& part, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += part;
    return out;
  };
  const std::vector<std::string> hostile = {
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{{ 'x' * 10**12 }}",
      "{{ [0] * 10**12 }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ range(10**9) }}",
      "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}"
      "{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}"
      "{% endfor %}",
      "{{ ('a' * 10**6)|replace('a', 'b' * 10**6) }}",
      "{{ (['a'] * 10**6)|join('b' * 10**6) }}",
      "{{ 'a'|indent(10**12, true) }}",
      "{{ '%99999999999d' % 1 }}",
      "{{ 'a'.center(10**12) }}",
      "{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}",
      "{{ " + repeated("not ", 5000) + "1 }}",
      "{{ " + repeated("-", 5000) + "1 }}",
      "{{ 1" + repeated("+1", 50'000) + " }}",
      "{{ x" + repeated("|trim", 50'000) + " }}",
      "{{ x" + repeated("[0]", 50'000) + " }}",
      repeated("{% if 1 %}", 5000),
      "{{ " + repeated("[", 5000)};
  for (const std::string& source : hostile) {
    const std::clock_t start = std::clock();
    EXPECT_TRUE(failure(source).starts_with("chat template: line ")) << source.substr(0, 80);
    // The slowest takes 1 s of processor time; the limit leaves room for sanitizers.
    EXPECT_LT(std::clock() - start, 30 * CLOCKS_PER_SEC) << source.substr(0, 80);
  }
}

TEST(ChatTemplate, FreesNamespacesThatHoldEachOther) {
  // The leak checker of a sanitizer build is the judge.
  EXPECT_EQ(render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}ok"),
            "ok");
}

}  // namespace
}  // namespace lapidary
