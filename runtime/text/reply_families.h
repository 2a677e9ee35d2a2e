// The parsers behind ReplyParser::make(), one file each.
#pragma once

#include <memory>
#include <string_view>

#include "runtime/text/reply_parser.h"

namespace lapidary {

// What a Gemma model's special tokens say.
struct GemmaMarkers {
  std::string_view thought_begin, thought_end;  // empty: the family has no thoughts
  std::string_view call_begin, call_end, response_begin, quote;
};
extern const GemmaMarkers kGemma4Markers, kFunctionGemmaMarkers;

// The prompt ends inside a thought that the model goes on with.
bool opens_thought(ReplyFormat format, std::string_view prompt_tail);

std::unique_ptr<ReplyParser> make_gemma_parser(const GemmaMarkers& markers, bool is_thinking);
std::unique_ptr<ReplyParser> make_llama3_parser();
std::unique_ptr<ReplyParser> make_qwen3_parser(bool is_thinking);

// `text` without white space at its end.
std::string_view without_trailing_space(std::string_view text);

}  // namespace lapidary
