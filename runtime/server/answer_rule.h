// What an Ask holds the answer to, as a rule of the grammar.
//
// A thought may come first, in the model's own marks, where thinking is not switched off: what is
// held is the answer behind it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/grammar/rule.h"
#include "runtime/server/ask.h"
#include "runtime/text/reply_parser.h"

namespace lapidary::server {

struct KeyedRule {
  std::string key;  // equal exactly when the rules are
  Rule rule;
};

// `prompt_tail` may have opened a thought. Nothing: the answer is free. Throws as
// tool_calls_rule().
std::optional<KeyedRule> answer_rule(const Ask& ask, ReplyFormat format,
                                     std::string_view prompt_tail);

}  // namespace lapidary::server
