// Tool calls as a rule: what a model may say when it may, must or must not call the tools that a
// request declares, in the notation that its family was trained on.
//
// What follows the rule is taken apart by ReplyParser into complete calls of declared tools whose
// arguments are valid under their schemas. Thoughts come first and are free. Gemma's arguments
// stand in the order in which its templates write them (sorted by name, whatever their case), those
// of the JSON families in the order of the schema.
#pragma once

#include <string>
#include <string_view>

#include "runtime/grammar/rule.h"
#include "runtime/text/reply_parser.h"

namespace lapidary {

struct ToolChoice {
  enum class Need {
    kMay,  // "auto": text, calls or both
    kMust  // "required", or a named tool: one call at least, and no text but thoughts
  };
  Need need = Need::kMay;
  std::string only = {};  // the one tool that may be called; empty: any
  bool parallel = true;   // more than one call; never in Llama 3, whose template cannot repeat them
};

// `tools_json`: an array of {"type": "function", "function": {"name", "parameters", "strict"}}, or
// of the inner objects. A schema that constrained output does not support is an Error for a tool
// with "strict": true; other tools may then be given any object.
// `prompt_tail`: as of ReplyParser::make(). Throws kBadData for declarations that are none, kUsage
// for an `only` that is not declared, for no tools at all, and for ReplyFormat::kPlain.
Rule tool_calls_rule(ReplyFormat format, std::string_view tools_json, const ToolChoice& choice,
                     std::string_view prompt_tail = {});

}  // namespace lapidary
