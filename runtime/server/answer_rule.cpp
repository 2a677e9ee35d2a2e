// Rules for JSON answers, with room for a thought before them.
#include "runtime/server/answer_rule.h"

#include <fmt/format.h>

#include "runtime/grammar/tool_calls.h"
#include "runtime/text/reply_families.h"

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

// The JSON answer, behind a thought or not.
KeyedRule form_rule(const Ask& ask, ReplyFormat format, std::string_view prompt_tail) {
  const std::string schema =
      ask.form == AnswerForm::kJsonObject ? R"({"type":"object"})" : ask.schema_json;
  KeyedRule keyed{schema, Rule::schema(schema)};
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

// Calls that are complete and fit their declarations, whenever the model calls.
KeyedRule calls_rule(const Ask& ask, ReplyFormat format, std::string_view prompt_tail,
                     bool must_call) {
  lapidary::ToolChoice choice;
  choice.need = must_call ? lapidary::ToolChoice::Need::kMust : lapidary::ToolChoice::Need::kMay;
  choice.only = ask.tool_name;
  choice.parallel = ask.parallel_tool_calls;
  const bool is_open = opens_thought(format, prompt_tail);
  std::string key =
      fmt::format("calls {} {} {} {} ", must_call, choice.only, choice.parallel, is_open) +
      ask.tools_json;
  return {std::move(key), tool_calls_rule(format, ask.tools_json, choice, prompt_tail)};
}

bool may_call(const Ask& ask) {
  return ask.is_chat() && !ask.tools_json.empty() && ask.tool_choice != ToolChoice::kNone;
}

}  // namespace

std::optional<KeyedRule> answer_rule(const Ask& ask, ReplyFormat format,
                                     std::string_view prompt_tail) {
  const bool must_call =
      ask.tool_choice == ToolChoice::kRequired || ask.tool_choice == ToolChoice::kNamed;
  const bool calls = may_call(ask) && (must_call || format != ReplyFormat::kPlain);
  if (calls && (must_call || ask.form == AnswerForm::kText))
    return calls_rule(ask, format, prompt_tail, must_call);
  if (ask.form == AnswerForm::kText) return std::nullopt;
  KeyedRule form = form_rule(ask, format, prompt_tail);
  if (!calls) return form;
  KeyedRule call = calls_rule(ask, format, prompt_tail, /*must_call=*/true);
  return KeyedRule{call.key + " or " + form.key,
                   Rule::choice({std::move(call.rule), std::move(form.rule)})};
}

}  // namespace lapidary::server
