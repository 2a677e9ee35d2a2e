// Rules for JSON answers, with room for a thought before them.
#include "runtime/server/answer_rule.h"

#include <algorithm>

namespace lapidary::server {
namespace {

struct ThoughtMarks {
  const char *begin, *end;
  const char* behind;  // pattern of what may stand between the thought and the answer
};

std::optional<ThoughtMarks> thought_marks(ReplyFormat format) {
  if (format == ReplyFormat::kGemma4) return ThoughtMarks{"<|channel>", "<channel|>", "\\n{0,2}"};
  if (format == ReplyFormat::kQwen3) return ThoughtMarks{"<think>", "</think>", "\\n{0,2}"};
  return std::nullopt;
}

Rule behind_thought(const ThoughtMarks& marks, Rule answer) {
  return Rule::sequence(
      {Rule::free_until(marks.end), Rule::regex(marks.behind), std::move(answer)});
}

}  // namespace

std::optional<KeyedRule> answer_rule(const Ask& ask, ReplyFormat format,
                                     std::string_view prompt_tail) {
  if (ask.form == AnswerForm::kText) return std::nullopt;
  const std::string schema =
      ask.form == AnswerForm::kJsonObject ? R"({"type":"object"})" : ask.schema_json;
  KeyedRule keyed{schema, "response_format", Rule::schema(schema)};
  const auto marks = ask.is_chat() ? thought_marks(format) : std::nullopt;
  if (!marks) return keyed;
  const size_t begin = prompt_tail.rfind(marks->begin), end = prompt_tail.rfind(marks->end);
  const bool is_open =
      begin != std::string_view::npos && (end == std::string_view::npos || end < begin);
  if (is_open) {
    keyed.key = "thought " + keyed.key;
    keyed.rule = behind_thought(*marks, std::move(keyed.rule));
  } else if (ask.thinking.value_or(true)) {
    keyed.key = "perhaps thought " + keyed.key;
    Rule thought = Rule::sequence({Rule::text(marks->begin), behind_thought(*marks, keyed.rule)});
    keyed.rule = Rule::choice({std::move(keyed.rule), std::move(thought)});
  }
  return keyed;
}

}  // namespace lapidary::server
