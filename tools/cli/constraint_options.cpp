// --json-schema, --json-space, --regex and --constrain-after.
#include "tools/cli/constraint_options.h"

#include <CLI/CLI.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "runtime/grammar/vocabulary.h"

namespace lapidary {

std::shared_ptr<const Constraint> ConstraintOptions::compile(
    const Tokenizer& tokenizer, const std::vector<int32_t>& stop_ids) const {
  if (!is_given()) {
    if (!after.empty()) fail(ErrorCode::kUsage, "--constrain-after needs --json-schema or --regex");
    return nullptr;
  }
  if (!schema.empty() && !regex.empty())
    fail(ErrorCode::kUsage, "give --json-schema or --regex, not both");
  const JsonSpace json_space = space == "none"  ? JsonSpace::kNone
                               : space == "one" ? JsonSpace::kOne
                                                : JsonSpace::kIndented;
  const bool is_text = schema.starts_with('{') || schema == "true";
  Rule rule = !regex.empty()    ? Rule::regex(regex)
              : schema == "any" ? Rule::any_json({json_space})
                                : Rule::schema(is_text ? schema : read_text(schema), {json_space});
  if (!after.empty()) rule = Rule::sequence({Rule::free_until(after), std::move(rule)});
  const auto vocabulary = std::make_shared<const grammar::Vocabulary>(tokenizer);
  if (schema.empty() || is_text || schema == "any")
    return Constraint::compile(rule, vocabulary, stop_ids);
  return with_context(schema, [&] { return Constraint::compile(rule, vocabulary, stop_ids); });
}

void add_constraint_options(CLI::App& command, ConstraintOptions& options) {
  command
      .add_option("--json-schema", options.schema,
                  "The answer is JSON that follows this schema; any: any JSON")
      ->type_name("FILE|JSON|any");
  command
      .add_option("--json-space", options.space,
                  "White space in that JSON: none, one (space or none after : and ,), indented")
      ->type_name("HOW")
      ->check(CLI::IsMember({"none", "one", "indented"}))
      ->capture_default_str();
  command
      .add_option("--regex", options.regex, "The answer as a whole matches this regular expression")
      ->type_name("PATTERN");
  command
      .add_option("--constrain-after", options.after,
                  "Free text up to this text or special token comes first, such as thinking")
      ->type_name("TEXT");
}

}  // namespace lapidary
