// Patterns: what matches, what does not, what is refused and why.
#include <gtest/gtest.h>

#include "formats/error.h"
#include "tests/runtime/grammar/grammar_fixture.h"

namespace lapidary {
namespace {

struct Case {
  const char* pattern;
  std::vector<const char*> matching, other;
};

TEST(Regex, MatchesWholeTexts) {
  const std::vector<Case> cases{
      {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
      {"", {""}, {"a"}},
      {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
      {"a*", {"", "a", "aaaa"}, {"b", "ab"}},
      {"a+?b??", {"a", "aab"}, {"", "b", "abb"}},
      {"(?:ab){2,3}", {"abab", "ababab"}, {"ab", "abababab", "aba"}},
      {"a{3}", {"aaa"}, {"aa", "aaaa"}},
      {"a{0}b{2,}", {"bb", "bbbbb"}, {"b", "abb"}},
      {"(?<year>\\d{4})-(\\d\\d)", {"2024-01"}, {"2024-1", "24-01"}},
      {"[a-c_\\-]+", {"a-b_c"}, {"d", ""}},
      {"[^a-c\\n]", {"d", "é", "漢", "😀", "-"}, {"a", "\n", "dd"}},
      {"[\\w.]+@\\w+\\.\\S\\W", {"a.b@c.x!"}, {"a.b@c.x", "@c.x!"}},
      {".", {"a", "é", "😀", "\t"}, {"\n", "", "ab", "\xE2\x80\xA8"}},
      {"\\s", {" ", "\t", "\xC2\xA0", "\xE2\x80\x83"}, {"a"}},
      {"\\x41\\u00e9\\u{1F600}\\uD83D\\uDE00\\t", {"Aé😀😀\t"}, {"Aé"}},
      {"^(a|b)$", {"a", "b"}, {"^a$"}},
      {"\\^\\$\\.\\/\\\\\\[\\]", {"^$./\\[]"}, {}},
      {"[à-ÿ]", {"à", "é", "ÿ"}, {"a", "\xC3", "Ā"}},
      {"(((a)))(()|b)", {"a", "ab"}, {"", "b"}},
  };
  for (const Case& c : cases) {
    const auto constraint = compiled(Rule::regex(c.pattern));
    for (const char* text : c.matching)
      EXPECT_TRUE(takes(constraint, text)) << c.pattern << " " << text;
    for (const char* text : c.other)
      EXPECT_FALSE(takes(constraint, text)) << c.pattern << " " << text;
  }
}

std::string error_of(const std::string& pattern) {
  try {
    compiled(Rule::regex(pattern));
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

TEST(Regex, NamesWhatItDoesNotSupport) {
  const std::vector<std::pair<const char*, const char*>> cases{
      {"(?=a)b", "look-ahead"},     {"(?!a)b", "look-ahead"},
      {"(?<=a)b", "look-behind"},   {"(?<!a)b", "look-behind"},
      {"(a)\\1", "back-ref"},       {"(?<n>a)\\k<n>", "back-ref"},
      {"\\bword", "word boundary"}, {"\\p{L}", "property"},
      {"(?i)a", "(? with"},         {"a*+", "possessive"},
      {"a**", "quantifier after"},  {"*a", "nothing before"},
      {"(a", "( without )"},        {"a)", "unmatched )"},
      {"[a", "[ without ]"},        {"[b-a]", "higher to a lower"},
      {"a{2,1}", "m over n"},       {"a{x}", "without a count"},
      {"\\", "at the end"},         {"\\q", "unknown escape"},
      {"x(^a)", "^ and $"},         {"a^b", "^ and $"},
      {"[]", "no character"},       {"\\uD800", "surrogate"},
      {"\\x4", "hexadecimal"},      {"a{9999999}", "count over"}};
  for (const auto& [pattern, part] : cases)
    EXPECT_NE(error_of(pattern).find(part), std::string::npos)
        << pattern << ": " << error_of(pattern);
}

TEST(Regex, BombsAreOneErrorAtOnce) {
  for (const char* pattern : {"((a{999}){999}){999}", "(((((a{10}){10}){10}){10}){10}){10}",
                              "(){1000000}", "((a?){1000}){1000}", "(a?){5000}", "(.*.*.*){9999}"})
    EXPECT_THROW(compiled(Rule::regex(pattern)), Error) << pattern;
  EXPECT_THROW(compiled(Rule::regex(std::string(300, '(') + std::string(300, ')'))), Error);
}

}  // namespace
}  // namespace lapidary
