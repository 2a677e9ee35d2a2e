// What a request does with a constraint: accept, finish, roll back, jump ahead.
#include <gtest/gtest.h>

#include "formats/error.h"
#include "tests/runtime/grammar/grammar_fixture.h"

namespace lapidary {
namespace {

constexpr int32_t kMark = 1, kEnd = 2;

std::vector<int32_t> tokens(std::string_view text) { return small_tokenizer().encode(text); }

bool accept_all(Matcher& matcher, std::string_view text) {
  for (const int32_t id : tokens(text))
    if (!matcher.accept(id)) return false;
  return true;
}

TEST(Matcher, FinishesWhenOnlyTheEndIsLeft) {
  Matcher m(compiled_schema(R"({"type":"object","properties":{"a":{"type":"integer"}},
                                "required":["a"]})"));
  EXPECT_TRUE(accept_all(m, "{\"a\": 12"));
  EXPECT_FALSE(m.may_end());
  EXPECT_FALSE(m.accept(kStop));
  EXPECT_TRUE(accept_all(m, "}"));
  EXPECT_TRUE(m.is_finished());
  EXPECT_TRUE(m.accept(kStop));
  EXPECT_TRUE(m.is_finished());
  EXPECT_FALSE(m.accept(kStop));
  for (const uint64_t word : m.mask()) EXPECT_EQ(word, 0u);
}

TEST(Matcher, StopsAreAllowedExactlyWhereTheTextMayEnd) {
  Matcher m(compiled(Rule::regex("ab*")));
  EXPECT_FALSE(m.mask()[0] & 1);
  EXPECT_TRUE(m.accept(3 + 'a'));
  EXPECT_TRUE(m.mask()[0] & 1);
  EXPECT_FALSE(m.is_finished());
  EXPECT_TRUE(m.accept(kStop));
  EXPECT_TRUE(m.is_finished());
}

TEST(Matcher, RollsBack) {
  Matcher m(compiled_schema(R"({"enum":["ab","name"]})"));
  EXPECT_TRUE(accept_all(m, "\"ab\""));
  EXPECT_TRUE(m.accept(kStop));
  m.rollback(m.n_tokens() - 1);
  EXPECT_TRUE(accept_all(m, "name\""));
  EXPECT_TRUE(m.is_finished());
  m.rollback(m.n_tokens());
  EXPECT_EQ(m.n_tokens(), 0u);
  EXPECT_TRUE(accept_all(m, "\"ab\""));
}

TEST(Matcher, RefusesWithoutChange) {
  Matcher m(compiled_schema(R"({"type":"boolean"})"));
  EXPECT_FALSE(m.accept(3 + 'x'));
  EXPECT_FALSE(m.accept(kMark));
  EXPECT_FALSE(m.accept(-1));
  EXPECT_FALSE(m.accept(100'000));
  EXPECT_TRUE(accept_all(m, "true"));
}

TEST(Matcher, JumpsAheadOverWhatIsForced) {
  Matcher m(compiled(Rule::schema(
      R"({"type":"object","properties":{"name":{"type":"string"}},"required":["name"]})",
      {JsonSpace::kNone})));
  EXPECT_EQ(m.forced_bytes(), "{\"name\":\"");
  std::string text;
  for (const int32_t id : m.forced_tokens()) {
    EXPECT_TRUE(m.accept(id));
    text += small_tokenizer().token_bytes(id);
  }
  EXPECT_TRUE(std::string_view("{\"name\":\"").starts_with(text));
  EXPECT_GE(text.size(), 6u);
  Matcher free(compiled(Rule::regex("a?b")));
  EXPECT_EQ(free.forced_bytes(), "");
}

TEST(Matcher, ThinksFirst) {
  Matcher m(compiled(Rule::sequence({Rule::free_until("<|mark|>"), Rule::any_json()})));
  EXPECT_TRUE(accept_all(m, "let me see {\"é\": 漢"));
  EXPECT_TRUE(m.accept(kEnd));  // another special token is free text too
  EXPECT_FALSE(m.accept(kStop));
  EXPECT_TRUE(m.accept(kMark));
  EXPECT_FALSE(m.accept(3 + 'x'));
  EXPECT_FALSE(m.accept(kMark));
  EXPECT_TRUE(accept_all(m, "[1, true]"));
  EXPECT_TRUE(m.is_finished());
}

TEST(Matcher, ThinkingMayEndInsideAToken) {
  Matcher m(compiled(Rule::sequence({Rule::free_until("ab"), Rule::schema(R"({"enum":["x"]})")})));
  EXPECT_TRUE(accept_all(m, "aaa"));
  // ab"} would end the thinking and go on with "}, which the schema refuses.
  const auto id = small_tokenizer().id_of("ab\"}");
  ASSERT_TRUE(id);
  EXPECT_FALSE(m.accept(*id));
  EXPECT_TRUE(accept_all(m, "b\"x\""));
  EXPECT_TRUE(m.is_finished());
}

TEST(Matcher, CallsToolsInFreeText) {
  const Rule call = Rule::sequence(
      {Rule::schema(
           R"({"type":"object","properties":{"name":{"const":"a"},"age":{"type":"integer"}},
                        "required":["name","age"]})"),
       Rule::text("<|end|>")});
  Matcher m(compiled(Rule::triggered({{"<|mark|>", call}})));
  EXPECT_TRUE(m.may_end());
  EXPECT_TRUE(accept_all(m, "I call: "));
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(m.accept(kMark));
    EXPECT_FALSE(m.may_end());
    EXPECT_FALSE(m.accept(3 + 'x'));
    EXPECT_TRUE(accept_all(m, "{\"name\": \"a\", \"age\":12}"));
    EXPECT_FALSE(m.accept(kStop));
    EXPECT_TRUE(m.accept(kEnd));
  }
  EXPECT_TRUE(m.accept(kStop));
  EXPECT_THROW(compiled(Rule::triggered({{"ab", Rule::text("x")}, {"b", Rule::text("y")}})), Error);
  EXPECT_THROW(compiled(Rule::triggered({{"", Rule::text("x")}})), Error);
}

TEST(Matcher, ChoosesBetweenRules) {
  const auto c = compiled(Rule::choice({Rule::text("ab"), Rule::any_json(), Rule::regex("a+")}));
  for (const char* text : {"ab", "{}", "aaa"}) EXPECT_TRUE(takes(c, text)) << text;
  for (const char* text : {"", "abb", "{"}) EXPECT_FALSE(takes(c, text)) << text;
}

TEST(Constraint, TellsItsMemory) {
  const auto c = compiled(Rule::any_json());
  const size_t before = c->bytes();
  Matcher m(c);
  m.mask();
  EXPECT_TRUE(m.accept(3 + '['));
  m.mask();
  EXPECT_GT(c->bytes(), before);
}

}  // namespace
}  // namespace lapidary
