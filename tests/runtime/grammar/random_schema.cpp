// A small generator; most of what it makes can be satisfied.
#include "tests/runtime/grammar/random_schema.h"

#include <array>
#include <nlohmann/json.hpp>

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  Json document() {
    Json root = schema(3);
    if (!root.is_object()) root = Json::object();
    Json& definitions = root["definitions"] = Json::object();
    definitions["leaf"] = scalar();
    definitions["tree"] = {
        {"type", "object"},
        {"properties",
         {{"a", scalar()},
          {"name", {{"anyOf", {{{"$ref", "#/definitions/tree"}}, {{"type", "null"}}}}}}}},
        {"required", {"a", "name"}},
        {"additionalProperties", false}};
    definitions["list"] = {{"type", {"array", "integer"}},
                           {"items", {{"$ref", "#/definitions/list"}}},
                           {"maxItems", 3}};
    return root;
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }

  Json schema(int depth) {
    if (depth == 0) return scalar();
    switch (below(11)) {
      case 0:
      case 1:
      case 2:
        return object(depth);
      case 3:
      case 4:
        return array(depth);
      case 5:
        return any_of(depth);
      case 6:
        return one_of(depth);
      case 7:
        return all_of(depth);
      case 8:
        return reference();
      case 9:
        return chance(20) ? Json::object() : types();
      default:
        return scalar();
    }
  }

  Json reference() {
    static constexpr std::array kNames = {"leaf", "tree", "list"};
    return {{"$ref", std::string("#/definitions/") + kNames[static_cast<size_t>(below(3))]}};
  }

  Json scalar() {
    switch (below(6)) {
      case 0:
        return string();
      case 1:
        return integer();
      case 2:
        return number();
      case 3:
        return literals();
      case 4:
        return {{"type", chance(50) ? "boolean" : "null"}};
      default:
        return string();
    }
  }

  Json string() {
    Json s{{"type", "string"}};
    if (chance(30)) {
      static constexpr std::array kPatterns = {"^[a-c]{1,3}$",    "ab",     "^(ab|name)+$",
                                               "[0-9]{2}$",       "^x?y*z", "^[A-Z][a-z]*$",
                                               "^\\d{3}-\\d{4}$", "a|b$",   "^[^a-z\\\\\"]+$"};
      s["pattern"] = kPatterns[static_cast<size_t>(below(kPatterns.size()))];
      if (chance(20)) s["maxLength"] = 8 + below(8);
      return s;
    }
    const int least = below(4);
    if (chance(40)) s["minLength"] = least;
    if (chance(50)) s["maxLength"] = least + below(8);
    return s;
  }

  Json integer() {
    Json s{{"type", "integer"}};
    const int low = below(400) - 200;
    if (chance(60)) s[chance(70) ? "minimum" : "exclusiveMinimum"] = low;
    if (chance(60)) s[chance(70) ? "maximum" : "exclusiveMaximum"] = low + 12 + below(2000);
    if (chance(30)) s["multipleOf"] = 1 + below(9);
    return s;
  }

  Json number() {
    Json s{{"type", "number"}};
    const double low = (below(4000) - 2000) / 16.0;
    if (chance(50)) s[chance(70) ? "minimum" : "exclusiveMinimum"] = low;
    if (chance(50)) s[chance(70) ? "maximum" : "exclusiveMaximum"] = low + 1 + below(500) / 8.0;
    if (chance(25)) s["multipleOf"] = chance(50) ? 0.5 : 0.25;
    return s;
  }

  Json literals() {
    static const std::array<Json, 9> kValues = {"a",  "ab",    "é漢", "x\"y\n",           1,
                                                -2.5, nullptr, true,  Json{{"k", {1, 2}}}};
    if (chance(30)) return {{"const", kValues[static_cast<size_t>(below(kValues.size()))]}};
    Json list = Json::array();
    const int first = below(5);
    for (int i = 0; i <= below(4); ++i) list.push_back(kValues[static_cast<size_t>(first + i)]);
    return {{"enum", list}};
  }

  Json types() {
    static const std::array<const char*, 6> kTypes = {"string", "integer", "boolean",
                                                      "null",   "array",   "object"};
    Json list = Json::array();
    for (const char* type : kTypes)
      if (chance(40)) list.push_back(type);
    if (list.empty()) list.push_back("null");
    return {{"type", list}};
  }

  Json array(int depth) {
    Json s{{"type", "array"}};
    const int least = below(3);
    if (chance(25)) {  // a tuple
      s["items"] = Json::array();
      for (int i = 0; i <= least; ++i) s["items"].push_back(schema(depth - 1));
      s["additionalItems"] = chance(50) ? Json(false) : scalar();
    } else if (chance(85)) {
      s["items"] = schema(depth - 1);
    }
    if (chance(50)) s["minItems"] = least;
    if (chance(50)) s["maxItems"] = least + below(3) + (least == 0 ? 1 : 0);
    return s;
  }

  Json object(int depth) {
    static constexpr std::array kNames = {"a", "ab", "name", "age", "é", "x\"y", "e1", "the"};
    Json s{{"type", "object"}};
    if (chance(15)) {  // a map
      if (chance(50)) s["propertyNames"] = {{"pattern", "^[a-c]+$"}};
      s["additionalProperties"] = schema(depth - 1);
      return s;
    }
    if (chance(8)) {
      s["patternProperties"] = {{"^k[0-9]$", schema(depth - 1)}};
      s["additionalProperties"] = false;
      return s;
    }
    Json& properties = s["properties"] = Json::object();
    Json required = Json::array();
    const int first = below(5);
    const int n = 1 + below(3);
    for (int i = 0; i < n; ++i) {
      const char* name = kNames[static_cast<size_t>(first + i)];
      properties[name] = schema(depth - 1);
      if (chance(60)) required.push_back(name);
    }
    if (!required.empty()) s["required"] = required;
    if (chance(50)) s["additionalProperties"] = chance(60) ? Json(false) : scalar();
    if (chance(12)) s["minProperties"] = 1;
    if (chance(12)) s["maxProperties"] = 3;
    return s;
  }

  Json any_of(int depth) {
    Json s{{"anyOf", Json::array()}};
    for (int i = 0; i <= 1 + below(2); ++i) s["anyOf"].push_back(schema(depth - 1));
    return s;
  }

  Json one_of(int depth) {
    if (chance(50)) return {{"oneOf", {string(), integer(), {{"type", "null"}}}}};
    Json s{{"oneOf", Json::array()}};
    for (const char* kind : {"a", "ab"})
      s["oneOf"].push_back({{"type", "object"},
                            {"properties", {{"e1", {{"const", kind}}}, {"the", schema(depth - 1)}}},
                            {"required", {"e1"}}});
    return s;
  }

  Json all_of(int depth) {
    if (chance(50)) return {{"allOf", {integer(), {{"minimum", -300}}, {{"maximum", 3000}}}}};
    return {{"allOf",
             {{{"type", "object"}, {"properties", {{"a", schema(depth - 1)}}}, {"required", {"a"}}},
              {{"type", "object"}, {"properties", {{"age", scalar()}}}}}},
            {"description", "two parts"}};
  }

  std::mt19937_64 random_;
};

}  // namespace

std::string random_schema(uint64_t seed) { return Generator(seed).document().dump(); }

}  // namespace lapidary
