// Masks against brute force, recursion, depth limits and dead ends.
#include "runtime/grammar/automaton.h"

#include <gtest/gtest.h>

#include <random>

#include "formats/error.h"
#include "tests/runtime/grammar/grammar_fixture.h"

namespace lapidary {
namespace {

bool bit(std::span<const uint64_t> mask, int32_t id) {
  return mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1;
}

// Every token tried alone must agree with the mask; then one of the possible ones goes on.
void check_walk(const std::shared_ptr<const Constraint>& constraint, uint32_t seed, int steps) {
  std::mt19937 random(seed);
  Matcher matcher(constraint);
  for (int step = 0; step < steps && !matcher.is_finished(); ++step) {
    const auto span = matcher.mask();
    const std::vector<uint64_t> mask(span.begin(), span.end());
    std::vector<int32_t> possible;
    for (int32_t id = 0; id < small_vocabulary()->size(); ++id) {
      const bool taken = matcher.accept(id);
      if (taken) {
        matcher.rollback(1);
        possible.push_back(id);
      }
      ASSERT_EQ(bit(mask, id), taken)
          << "token " << id << " \"" << small_tokenizer().piece(id) << "\" at step " << step;
    }
    ASSERT_FALSE(possible.empty()) << "a dead end at step " << step;
    ASSERT_TRUE(matcher.accept(possible[random() % possible.size()]));
  }
}

TEST(Masks, AgreeWithTryingEveryToken) {
  const std::vector<Rule> rules{
      Rule::any_json(),
      Rule::any_json({JsonSpace::kIndented}),
      Rule::any_json({JsonSpace::kNone}),
      Rule::regex("(ab|é)*[^x]{0,5}(漢字)+"),
      Rule::schema(R"({"type":"object","properties":{"name":{"type":"string"},
          "age":{"type":"integer","minimum":0,"maximum":120},
          "a":{"type":"array","items":{"type":"string","maxLength":3}}}})"),
      Rule::schema(R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{
          "name":{"type":"string"},"a":{"type":"array","items":{"$ref":"#/$defs/n"}}},
          "required":["name","a"]}}})"),
      Rule::schema(R"({"type":"object","additionalProperties":{"type":["string","null"]},
          "properties":{"a":{"type":"string","pattern":"^a+b?$"}}})"),
      Rule::schema(R"({"anyOf":[{"type":"string"},{"type":"string","maxLength":4},
          {"type":"array","items":{"type":"string"}},{"enum":["ab","name",null,1]}]})"),
      Rule::sequence({Rule::free_until("<|mark|>"), Rule::any_json()}),
      Rule::sequence({Rule::free_until("ab\"}"), Rule::schema(R"({"type":"string"})")}),
      Rule::triggered({{"<|mark|>", Rule::sequence({Rule::any_json(), Rule::text("<|end|>")})},
                       {"name", Rule::regex("[0-9]+e")}}),
  };
  for (size_t i = 0; i < rules.size(); ++i) {
    const auto constraint = compiled(rules[i]);
    for (uint32_t seed = 0; seed < 4; ++seed) {
      SCOPED_TRACE("rule " + std::to_string(i) + " seed " + std::to_string(seed));
      check_walk(constraint, seed, 25);
      if (HasFatalFailure()) return;
    }
  }
}

// Places of a long count share masks while both bounds are out of any token's reach (255 bytes).
TEST(Masks, AgreeAllAlongALongCount) {
  const Rule rules[] = {
      Rule::schema(R"({"type":"string","minLength":400,"maxLength":1200})"),
      Rule::schema(R"({"type":"string","minLength":400,"maxLength":1200,"pattern":"^(ab?)*$"})"),
      Rule::schema(R"({"type":"string","minLength":400})")};
  for (const Rule& rule : rules) {
    const auto constraint = compiled(rule);
    Matcher matcher(constraint);
    ASSERT_TRUE(matcher.accept(3 + '"'));
    for (int length = 0; length < 1200; ++length) {
      for (const int bound : {0, 400 - 255, 400, 1200 - 255, 1200}) {
        if (std::abs(length - bound) > 2) continue;
        const auto span = matcher.mask();
        const std::vector<uint64_t> mask(span.begin(), span.end());
        for (int32_t id = 0; id < small_vocabulary()->size(); ++id) {
          const bool taken = matcher.accept(id);
          if (taken) matcher.rollback(1);
          ASSERT_EQ(bit(mask, id), taken) << "token " << id << " behind " << length;
        }
      }
      matcher.mask();
      ASSERT_TRUE(matcher.accept(3 + 'a')) << length;
    }
  }
}

TEST(Masks, HoldNearTheDepthLimit) {
  ConstraintLimits limits;
  limits.max_depth = 7;
  const auto constraint =
      Constraint::compile(Rule::any_json(), small_vocabulary(), {kStop}, limits);
  std::string deepest;
  while (deepest.size() < 100 && [&] {
    Matcher m(constraint);
    for (size_t i = 0; i <= deepest.size(); ++i)
      if (!m.accept(3 + '[')) return false;
    return true;
  }())
    deepest += '[';
  EXPECT_GE(deepest.size(), 2u);
  EXPECT_LE(deepest.size(), 7u);
  for (uint32_t seed = 0; seed < 6; ++seed) check_walk(constraint, seed, 40);
  // From the deepest place every prefix can still be completed.
  Matcher m(constraint);
  for (const char c : deepest) ASSERT_TRUE(m.accept(3 + c));
  for (size_t i = 0; i < deepest.size(); ++i) ASSERT_TRUE(m.accept(3 + ']'));
  EXPECT_TRUE(m.is_finished());
}

TEST(Masks, AreDroppedOverTheirLimitAndComeBack) {
  ConstraintLimits limits;
  limits.max_mask_bytes = 1;
  const auto constraint =
      Constraint::compile(Rule::any_json(), small_vocabulary(), {kStop}, limits);
  for (uint32_t seed = 0; seed < 4; ++seed) check_walk(constraint, seed, 40);
}

TEST(States, OverTheirLimitAreAnError) {
  ConstraintLimits limits;
  limits.max_state_bytes = 200'000;
  // A text of this language must remember the last 30 letters.
  const auto constraint =
      Constraint::compile(Rule::regex("[ab]*a[ab]{30}"), small_vocabulary(), {kStop}, limits);
  std::mt19937 random(1);
  Matcher m(constraint);
  EXPECT_THROW(for (int i = 0; i < 10'000; ++i) m.accept(3 + (random() % 2 ? 'a' : 'b')), Error);
  // The constraint is still usable: new matchers start with fresh tables.
  Matcher again(constraint);
  EXPECT_TRUE(again.accept(3 + 'a'));
}

TEST(Vocabularies, WithoutSomeBytesGiveNoTextThatNeedsThem) {
  const Tokenizer tokenizer = Tokenizer::from_json(
      R"({"model": {"type": "BPE", "vocab": {"</s>":0, "a":1, "b":2, "abc":3, "c1":4}, "merges": []},
          "added_tokens": [{"id": 0, "content": "</s>", "special": true}],
          "decoder": {"type": "Fuse"}})",
      5);
  const auto vocabulary = std::make_shared<const grammar::Vocabulary>(tokenizer);
  const auto constraint = Constraint::compile(Rule::regex("abc|a+b|ac1"), vocabulary, {0});
  Matcher m(constraint);
  EXPECT_EQ(m.mask()[0], 2u);  // a; not abc, since c alone could not be written
  EXPECT_THROW(Constraint::compile(Rule::regex("abc"), vocabulary, {0}), Error);
}

}  // namespace
}  // namespace lapidary
