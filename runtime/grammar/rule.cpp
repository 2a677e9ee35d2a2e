// Plain constructors.
#include "runtime/grammar/rule.h"

#include <utility>

namespace lapidary {

Rule Rule::text(std::string text) { return {Kind::kText, std::move(text), {}, {}, {}}; }
Rule Rule::regex(std::string pattern) { return {Kind::kRegex, std::move(pattern), {}, {}, {}}; }
Rule Rule::schema(std::string json, SchemaOptions options) {
  return {Kind::kSchema, std::move(json), options, {}, {}};
}
Rule Rule::any_json(SchemaOptions options) { return schema("true", options); }
Rule Rule::sequence(std::vector<Rule> parts) {
  return {Kind::kSequence, {}, {}, std::move(parts), {}};
}
Rule Rule::choice(std::vector<Rule> parts) { return {Kind::kChoice, {}, {}, std::move(parts), {}}; }
Rule Rule::free_until(std::string end) { return {Kind::kFreeUntil, std::move(end), {}, {}, {}}; }
Rule Rule::triggered(std::vector<Trigger> triggers) {
  Rule rule{Kind::kTriggered, {}, {}, {}, {}};
  for (Trigger& t : triggers) {
    rule.triggers.push_back(std::move(t.text));
    rule.parts.push_back(std::move(t.then));
  }
  return rule;
}

}  // namespace lapidary
