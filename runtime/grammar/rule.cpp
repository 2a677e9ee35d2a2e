// Plain constructors.
#include "runtime/grammar/rule.h"

#include <utility>

namespace lapidary {

Rule Rule::text(std::string text) { return {.kind = Kind::kText, .source = std::move(text)}; }
Rule Rule::regex(std::string pattern) {
  return {.kind = Kind::kRegex, .source = std::move(pattern)};
}
Rule Rule::schema(std::string json, SchemaOptions options) {
  return {.kind = Kind::kSchema, .source = std::move(json), .schema_options = std::move(options)};
}
Rule Rule::any_json(SchemaOptions options) { return schema("true", std::move(options)); }
Rule Rule::sequence(std::vector<Rule> parts) {
  return {.kind = Kind::kSequence, .parts = std::move(parts)};
}
Rule Rule::choice(std::vector<Rule> parts) {
  return {.kind = Kind::kChoice, .parts = std::move(parts)};
}
Rule Rule::many(Rule part) { return {.kind = Kind::kMany, .parts = {std::move(part)}}; }
Rule Rule::free_until(std::string end) { return free_until({{std::move(end), sequence({})}}); }

namespace {

Rule watching(std::vector<Rule::Trigger> triggers, bool repeats, bool may_end) {
  Rule rule{.kind = Rule::Kind::kTriggered, .repeats = repeats, .may_end = may_end};
  for (Rule::Trigger& t : triggers) {
    rule.triggers.push_back(std::move(t.text));
    rule.parts.push_back(std::move(t.then));
  }
  return rule;
}

}  // namespace

Rule Rule::triggered(std::vector<Trigger> triggers) {
  return watching(std::move(triggers), true, true);
}
Rule Rule::triggered_once(std::vector<Trigger> triggers) {
  return watching(std::move(triggers), false, true);
}
Rule Rule::free_until(std::vector<Trigger> ends) { return watching(std::move(ends), false, false); }

}  // namespace lapidary
