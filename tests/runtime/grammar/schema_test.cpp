// One row per keyword: instances that may be written and instances that may not.
#include <gtest/gtest.h>

#include <chrono>

#include "formats/error.h"
#include "tests/runtime/grammar/grammar_fixture.h"

namespace lapidary {
namespace {

struct Case {
  const char* schema;
  std::vector<const char*> valid, invalid;
};

void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    std::shared_ptr<const Constraint> constraint;
    ASSERT_NO_THROW(constraint = compiled_schema(c.schema)) << c.schema;
    for (const char* text : c.valid)
      EXPECT_TRUE(takes(constraint, text)) << c.schema << "\n" << text;
    for (const char* text : c.invalid)
      EXPECT_FALSE(takes(constraint, text)) << c.schema << "\n" << text;
  }
}

TEST(Schema, Types) {
  check({
      {R"({"type":"string"})",
       {R"("")", R"("aé漢😀\n\"\\\/\u00e9\uD83D\uDE00")"},
       {"a", R"("a)", R"("\x")", R"("\uD83D")", R"("\uDE00")", "\"\n\"", "\"\xFF\"", "\"\xC3\"",
        "1"}},
      {R"({"type":"integer"})",
       {"0", "7", "-12", "999999999999999999"},
       {"", "-", "-0", "01", "1.0", "1e3", "+1", "9999999999999999999"}},
      {R"({"type":"number"})",
       {"0", "-0.5", "12.25e-7", "1E5", "1e+05"},
       {".5", "1.", "01", "1e", "1e400", "--1", "NaN"}},
      {R"({"type":"boolean"})", {"true", "false"}, {"True", "0", "null"}},
      {R"({"type":"null"})", {"null"}, {"nul", "0"}},
      {R"({"type":["integer","null"]})", {"3", "null"}, {"\"3\"", "3.5"}},
      {R"({"type":"integer","nullable":true})", {"3", "null"}, {"true"}},
      {R"(true)",
       {"1", "[]", "{}", R"([1, [true, {"a": null}]])", R"({"a":1,"b": []})"},
       {"[1,]", "{,}", "[1 2]", R"({"a"})"}},
  });
}

TEST(Schema, EnumAndConst) {
  check({
      {R"({"enum":["a","ab",1,null,{"b":[1,2]}]})",
       {R"("a")", R"("ab")", "1", "null", R"({"b":[1,2]})"},
       {R"("b")", "2", R"({"b": [1,2]})"}},
      {R"({"const":"x\"y\n"})", {R"("x\"y\n")"}, {R"("x")"}},
      {R"({"enum":["a",1,2.5],"type":"string"})", {R"("a")"}, {"1", "2.5"}},
      {R"({"enum":[1,2,3],"const":2})", {"2"}, {"1"}},
      {R"({"enum":["é漢"]})", {R"("é漢")"}, {}},
  });
}

TEST(Schema, StringKeywords) {
  check({
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {R"("ab")", R"("é漢😀")", R"("\n\"a")"},
       {R"("a")", R"("abcd")", R"("")"}},
      {R"({"type":"string","minLength":2})", {R"("ab")", R"("abcdefgh")"}, {R"("a")"}},
      {R"({"type":"string","pattern":"^[a-c]+$"})", {R"("abc")"}, {R"("")", R"("abd")"}},
      {R"({"type":"string","pattern":"b"})", {R"("b")", R"("abc")", R"("\nb")"}, {R"("ac")"}},
      {R"({"type":"string","pattern":"^a|b$"})", {R"("ax")", R"("xb")"}, {R"("xbx")"}},
      {R"({"type":"string","pattern":"^\"\\\\$"})", {R"("\"\\")"}, {R"(""\")"}},
      {R"({"type":"string","pattern":"^a*$","minLength":1,"maxLength":3})",
       {R"("a")", R"("aaa")"},
       {R"("")", R"("aaaa")"}},
  });
}

TEST(Schema, Formats) {
  check({
      {R"({"type":"string","format":"date"})",
       {R"("2024-02-28")", R"("1999-12-31")"},
       {R"("2024-02-30")", R"("2024-13-01")", R"("2024-1-1")", R"("2024-04-31")"}},
      {R"({"type":"string","format":"time"})",
       {R"("23:59:59Z")", R"("00:00:00.5+02:00")"},
       {R"("24:00:00Z")", R"("12:00")"}},
      {R"({"type":"string","format":"date-time"})",
       {R"("2024-02-28T10:00:00Z")"},
       {R"("2024-02-28")"}},
      {R"({"type":"string","format":"duration"})",
       {R"("P3D")", R"("PT1H30M5S")", R"("P2W")"},
       {R"("P")", R"("PT")"}},
      {R"({"type":"string","format":"uuid"})",
       {R"("123e4567-e89b-12d3-a456-426614174000")"},
       {R"("123e4567e89b12d3a456426614174000")"}},
      {R"({"type":"string","format":"email"})",
       {R"("a.b@c-d.org")"},
       {R"("a.b")", R"("@c.d")", R"("a@b")"}},
      {R"({"type":"string","format":"ipv4"})",
       {R"("255.0.10.1")"},
       {R"("256.0.0.1")", R"("1.2.3")", R"("01.2.3.4")"}},
      {R"({"type":"string","format":"ipv6"})",
       {R"("::")", R"("::1")", R"("1::")", R"("2001:db8::8a2e:370:7334")", R"("1:2:3:4:5:6:7:8")",
        R"("1:2:3:4:5:6::")"},
       {R"("1:2")", R"("1:2:3:4:5:6:7:8:9")", R"("1::2::3")", R"("12345::")"}},
      {R"({"type":"string","format":"hostname"})",
       {R"("a-b.example.org")"},
       {R"("-a")", R"("a..b")"}},
      {R"({"type":"string","format":"uri"})",
       {R"("https://example.org:80/a%20b?x=1#y")"},
       {R"("example.org")", R"("http://a b")"}},
      {R"({"type":"string","format":"no-such-format"})", {R"("x")"}, {}},
  });
}

TEST(Schema, NumberKeywords) {
  check({
      {R"({"type":"integer","minimum":-12,"maximum":105})",
       {"-12", "-9", "0", "9", "99", "100", "105"},
       {"-13", "106", "200", "1000", "00", "-0", "1.0"}},
      {R"({"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":10})",
       {"1", "9"},
       {"0", "10", "-1"}},
      {R"({"type":"integer","minimum":0,"exclusiveMinimum":true})", {"1"}, {"0"}},
      {R"({"type":"integer","minimum":1000})", {"1000", "1001", "9999999"}, {"999", "-1000"}},
      {R"({"type":"integer","maximum":-1000})", {"-1000", "-99999"}, {"-999", "0"}},
      {R"({"type":"integer","multipleOf":7,"minimum":-50,"maximum":50})",
       {"0", "49", "-49", "7"},
       {"1", "50", "56"}},
      {R"({"type":"integer","minimum":0.5,"maximum":2.5})", {"1", "2"}, {"0", "3"}},
      {R"({"type":"number","minimum":0.5,"maximum":2.25})",
       {"0.5", "0.50", "1", "2.25", "2.249999", "2.2"},
       {"0", "0.49", "2.26", "2.3", "3", "-1", "1e0"}},
      {R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1})",
       {"0.1", "0.000001", "0.999999"},
       {"0", "1", "0.0", "1.0"}},
      {R"({"type":"number","minimum":-1.5,"maximum":-0.5})",
       {"-1.5", "-1", "-0.5"},
       {"-1.6", "-0.4", "0"}},
      {R"({"type":"number","multipleOf":0.25})", {"0.25", "1", "1.5", "-2.75"}, {"0.3", "0.125"}},
      {R"({"type":"number","minimum":1e-3,"maximum":1e3})",
       {"0.001", "1000", "0.0015"},
       {"0.0009", "1001"}},
  });
}

TEST(Schema, ArrayKeywords) {
  check({
      {R"({"type":"array","items":{"type":"integer"}})",
       {"[]", "[1]", "[1,2, 3]"},
       {"[1,]", "[,1]", "[\"a\"]", "[ 1]", "[1  ,2]"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})",
       {"[1, 2]", "[1, 2, 3]"},
       {"[]", "[1]", "[1,2,3,4]"}},
      {R"({"type":"array","items":{"type":"null"},"minItems":1})",
       {"[null]", "[null,null,null]"},
       {"[]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}]})",
       {"[]", "[1]", "[1,\"a\"]"},
       {"[\"a\"]", "[1,\"a\",2]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"},"minItems":1})",
       {"[1]", "[1,null,null]"},
       {"[]", "[null]", "[1,2]"}},
      {R"({"type":"array","items":[{"const":1},{"const":2}],"additionalItems":false,"minItems":2})",
       {"[1,2]"},
       {"[1]", "[1,2,2]"}},
      {R"({"type":"array","items":false})", {"[]"}, {"[1]"}},
  });
}

TEST(Schema, ObjectKeywords) {
  check({
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},"required":["b"]})",
       {R"({"b": 1})", R"({"a":1,"b":2})", R"({"a":1,"b":2, "c":3})", R"({"b":2,"c":3})"},
       {"{}", R"({"a":1})", R"({"b":1,"a":1})", R"({"b":1,})", R"({,"b":1})", R"({"b":1,"d":1})",
        R"({"b":1 "c":2})"}},
      {R"({"type":"object","properties":{"a":{"const":1},"b":{"const":2}}})",
       {"{}", R"({"a":1})", R"({"b":2})", R"({"a":1, "b":2})"},
       {R"({"a":2})"}},
      {R"({"type":"object","properties":{"a":{"const":1}},"additionalProperties":{"type":"integer"}})",
       {"{}", R"({"a":1})", R"({"a":1,"b":2,"aa":3})", R"({"b":2})"},
       {R"({"a":2})", R"({"b":1,"a":2})", R"({"b":"x"})", R"({"\u0061":2})"}},
      {R"({"type":"object","properties":{"a":{"const":1}},"additionalProperties":true,"required":["a"]})",
       {R"({"a":1})", R"({"a":1,"zz":[{}]})"},
       {"{}", R"({"zz":1})"}},
      {R"({"type":"object"})", {"{}", R"({"a": {"b": []}})"}, {"[]"}},
      {R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"a":1})"}},
      {R"({"type":"object","minProperties":2,"maxProperties":3,"additionalProperties":{"const":1}})",
       {R"({"a":1,"b":1})", R"({"a":1,"b":1,"c":1})"},
       {"{}", R"({"a":1})", R"({"a":1,"b":1,"c":1,"d":1})"}},
      {R"({"type":"object","minProperties":1,"properties":{"a":{"const":1},"b":{"const":1}}})",
       {R"({"a":1})", R"({"b":1})"},
       {"{}"}},
      {R"({"type":"object","maxProperties":1,"properties":{"a":{"const":1},"b":{"const":1}}})",
       {"{}", R"({"a":1})", R"({"b":1})"},
       {R"({"a":1,"b":1})"}},
      {R"({"type":"object","propertyNames":{"pattern":"^k[0-9]$"},"additionalProperties":{"const":1}})",
       {"{}", R"({"k1":1,"k2":1})"},
       {R"({"a":1})"}},
      {R"({"type":"object","patternProperties":{"^k":{"const":1}}})",
       {"{}", R"({"k1":1,"k":1})"},
       {R"({"a":1})"}},
      {R"({"type":"object","properties":{"a\"b":{"const":1}},"required":["a\"b"]})",
       {R"({"a\"b":1})"},
       {"{}"}},
      {R"({"type":"object","required":["x"],"additionalProperties":{"const":1}})",
       {R"({"x":1})", R"({"x":1,"y":1})"},
       {"{}", R"({"y":1})"}},
      {R"({"type":"object","properties":{"a":false,"b":{"const":1}}})",
       {"{}", R"({"b":1})"},
       {R"({"a":1})"}},
  });
}

TEST(Schema, Combinations) {
  check({
      {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]})",
       {"12", R"("a")"},
       {R"("ab")", "null"}},
      {R"({"type":"object","properties":{"a":{"const":1}},"anyOf":[{"required":["a"]},{"properties":{"b":{"const":2}},"required":["b"]}]})",
       {R"({"a":1})", R"({"a":1,"b":2})", R"({"b":2})"},
       {"{}"}},
      {R"({"oneOf":[{"type":"integer"},{"type":"null"}]})", {"1", "null"}, {"true"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k","x"]},
                    {"type":"object","properties":{"k":{"const":"b"},"y":{"type":"null"}},"required":["k","y"]}]})",
       {R"({"k":"a","x":1})", R"({"k": "b", "y": null})"},
       {R"({"k":"a","y":null})"}},
      {R"({"oneOf":[{"type":"object","properties":{"a":{}},"required":["a"]},{"type":"object","properties":{"b":{}},"required":["b"]}]})",
       {R"({"a":1})", R"({"b":1})"},
       {"{}", R"({"a":1,"b":1})"}},
      {R"({"allOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":2}}}],"type":"object"})",
       {R"({"a":1})", R"({"a":1,"b":2})"},
       {R"({"b":2})"}},
      {R"({"allOf":[{"minimum":1},{"maximum":3},{"multipleOf":2}],"type":"integer"})",
       {"2"},
       {"1", "3", "4"}},
      {R"({"allOf":[{"$ref":"#/$defs/p"}],"description":"x","$defs":{"p":{"enum":["a","b"]}}})",
       {R"("a")"},
       {R"("c")"}},
      {R"({"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"const":7}}})", {"7"}, {"8"}},
      {R"({"$ref":"#/$defs/p","maximum":3,"$defs":{"p":{"type":"integer","minimum":2}}})",
       {"2", "3"},
       {"1", "4"}},
      {R"({"$defs":{"t":{"type":"object","properties":{"v":{"type":"integer"},"n":{"anyOf":[{"$ref":"#/$defs/t"},{"type":"null"}]}},"required":["v","n"]}},"$ref":"#/$defs/t"})",
       {R"({"v":1,"n":null})", R"({"v":1,"n":{"v":2,"n":null}})"},
       {R"({"v":1})", R"({"v":1,"n":{}})"}},
      {R"({"type":["array","integer"],"items":{"$ref":"#"}})",
       {"1", "[]", "[[1],[[2]]]"},
       {"[null]"}},
      {R"({"anyOf":[{"$ref":"#"},{"type":"integer"}]})", {"1"}, {"null"}},
      {R"({"title":"t","x-y":1,"default":3,"examples":[1],"type":"integer"})", {"1"}, {}},
  });
}

TEST(Schema, SpacePolicies) {
  const char* schema =
      R"({"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}},"required":["a"]})";
  const auto none = compiled_schema(schema, JsonSpace::kNone);
  const auto one = compiled_schema(schema, JsonSpace::kOne);
  const auto lines = compiled_schema(schema, JsonSpace::kIndented);
  const char* tight = R"({"a":[1,2]})";
  const char* spaced = R"({"a": [1, 2]})";
  const char* indented = "{\n  \"a\": [\n    1,\n    2\n  ]\n}";
  for (const auto& c : {none, one, lines}) EXPECT_TRUE(takes(c, tight));
  EXPECT_FALSE(takes(none, spaced));
  EXPECT_TRUE(takes(one, spaced));
  EXPECT_TRUE(takes(lines, spaced));
  EXPECT_FALSE(takes(one, indented));
  EXPECT_TRUE(takes(lines, indented));
  EXPECT_FALSE(takes(lines, "{\n" + std::string(33, ' ') + "\"a\": []}"));
  EXPECT_FALSE(takes(one, R"({"a":  [1]})"));
  EXPECT_FALSE(takes(one, R"({ "a": [1]})"));
}

std::string error_of(const std::string& schema) {
  try {
    compiled_schema(schema);
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

TEST(Schema, NamesWhatItDoesNotSupport) {
  const std::vector<std::pair<const char*, const char*>> cases{
      {R"({"not":{"type":"null"}})", "not is not supported"},
      {R"({"if":{},"then":{}})", "if is not supported"},
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"array","contains":{}})", "contains"},
      {R"({"dependentRequired":{}})", "dependentRequired"},
      {R"({"unevaluatedProperties":true})", "unevaluatedProperties"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "oneOf"},
      {R"({"$ref":"http://x/y"})", "$ref"},
      {R"({"$ref":"#/$defs/none"})", "points to nothing"},
      {R"({"type":"strin"})", "type"},
      {R"({"enum":["abc"],"minLength":2})", "enum"},
      {R"_({"type":"string","pattern":"(?=a)"})_", "look-ahead"},
      {R"({"type":"string","pattern":"a","format":"date"})", "pattern beside format"},
      {R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})", "pattern"},
      {R"({"type":"integer","multipleOf":1000003})", "multipleOf"},
      {R"({"type":"number","minimum":1e300})", "minimum"},
      {R"({"minLength":-1})", "minLength"},
      {R"({"properties":[]})", "properties"},
      {R"({"anyOf":[]})", "anyOf"},
      {R"({"type":"object","patternProperties":{"a":{},"b":{}}})", "patternProperties"},
      {R"(3)", "expected a schema"},
      {R"({"type":)", "JSON schema"},
      {R"({"type":"null","type":"null"})", "JSON schema"},
  };
  for (const auto& [schema, part] : cases)
    EXPECT_NE(error_of(schema).find(part), std::string::npos) << schema << ": " << error_of(schema);
}

TEST(Schema, WithoutAnyTextIsAnError) {
  for (const char* schema :
       {"false", R"({"enum":[]})", R"({"type":"integer","minimum":2,"maximum":1})",
        R"({"$ref":"#"})", R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
        R"({"type":"string","minLength":3,"maxLength":2})",
        R"({"type":"array","minItems":2,"maxItems":1})",
        R"({"allOf":[{"type":"string"},{"type":"null"}]})",
        R"({"type":"object","required":["a"],"additionalProperties":false})",
        R"({"type":"integer","multipleOf":10,"minimum":1,"maximum":9})",
        R"({"type":"string","pattern":"^abc$","maxLength":2})"})
    EXPECT_NE(error_of(schema).find("no text satisfies"), std::string::npos)
        << schema << ": " << error_of(schema);
}

std::string nested(const std::string& open, const std::string& middle, const std::string& close,
                   int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += open;
  text += middle;
  for (int i = 0; i < n; ++i) text += close;
  return text;
}

TEST(Schema, BombsAreOneErrorAtOnce) {
  std::string huge_enum = R"({"enum":[)";
  for (int i = 0; i < 200'000; ++i) huge_enum += fmt::format("\"{:06}{}\",", i * 7919 % 1000000, i);
  huge_enum += "1]}";
  std::string product = R"({"allOf":[)";
  for (int i = 0; i < 12; ++i)
    product += fmt::format(
        R"({}{{"anyOf":[{{"required":["a{}"]}},{{"required":["b{}"]}},{{"required":["c{}"]}},{{"required":["d{}"]}}]}})",
        i ? "," : "", i, i, i, i);
  product += R"(],"type":"object"})";
  std::string cycle = R"({"$defs":{)";
  for (int i = 0; i < 300; ++i)
    cycle += fmt::format(R"({}"d{}":{{"$ref":"#/$defs/d{}"}})", i ? "," : "", i, (i + 1) % 300);
  cycle += R"(},"$ref":"#/$defs/d0","type":"null"})";
  for (const std::string& schema :
       {std::string(R"({"type":"string","maxLength":100000000})"),
        std::string(R"({"type":"string","pattern":"((a{999}){999}){999}"})"),
        std::string(R"({"type":"array","maxItems":1000000000})"),
        std::string(R"({"type":"array","minItems":1000000000})"),
        std::string(R"({"type":"object","maxProperties":1000000})"), huge_enum, product, cycle,
        nested(R"({"anyOf":[{"type":"null"},)", "true", "]}", 100'000),
        nested(R"({"items":)", "true", "}", 10'000)}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_NE(error_of(schema), "none") << schema.substr(0, 80);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_LT(seconds, 5.0) << schema.substr(0, 80);  // 0.1 s to 0.5 s here, without sanitizers
  }
}

}  // namespace
}  // namespace lapidary
