// Choosing a family, and plain text.
#include "runtime/text/reply_parser.h"

#include "formats/error.h"
#include "runtime/text/reply_families.h"
#include "runtime/text/reply_writer.h"

namespace lapidary {
namespace {

class PlainParser : public ReplyParser {
 public:
  void push(std::string_view text, std::vector<ReplyDelta>& out) override {
    if (!text.empty()) out.push_back({ReplyDelta::Kind::kContent, std::string(text)});
  }
  void finish(std::vector<ReplyDelta>&) override {}
};

}  // namespace

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty() && is_json_space(text.back())) text.remove_suffix(1);
  return text;
}

ReplyFormat reply_format(std::string_view chat_template) {
  const auto writes = [&](std::string_view text) {
    return chat_template.find(text) != std::string_view::npos;
  };
  if (writes("<|tool_call>") || writes("<|channel>") || writes("<|turn>"))
    return ReplyFormat::kGemma4;
  if (writes("<start_function_call>")) return ReplyFormat::kFunctionGemma;
  if (writes("<|start_header_id|>")) return ReplyFormat::kLlama3;
  if (writes("<|im_start|>") && (writes("<tool_call>") || writes("<think>")))
    return ReplyFormat::kQwen3;
  return ReplyFormat::kPlain;
}

bool opens_thought(ReplyFormat format, std::string_view prompt_tail) {
  prompt_tail = without_trailing_space(prompt_tail);
  if (format == ReplyFormat::kQwen3) return prompt_tail.ends_with("<think>");
  return format == ReplyFormat::kGemma4 && prompt_tail.ends_with("<|channel>thought");
}

std::unique_ptr<ReplyParser> ReplyParser::make(ReplyFormat format, std::string_view prompt_tail) {
  const bool is_thinking = opens_thought(format, prompt_tail);
  switch (format) {
    case ReplyFormat::kPlain:
      return std::make_unique<PlainParser>();
    case ReplyFormat::kGemma4:
      return make_gemma_parser(kGemma4Markers, is_thinking);
    case ReplyFormat::kFunctionGemma:
      return make_gemma_parser(kFunctionGemmaMarkers, false);
    case ReplyFormat::kLlama3:
      return make_llama3_parser();
    case ReplyFormat::kQwen3:
      return make_qwen3_parser(is_thinking);
  }
  fail(ErrorCode::kInternal, "unknown format of replies");
}

void Reply::add(const ReplyDelta& delta) {
  const auto index = static_cast<size_t>(delta.call_index);
  switch (delta.kind) {
    case ReplyDelta::Kind::kReasoning:
      reasoning += delta.text;
      return;
    case ReplyDelta::Kind::kContent:
      content += delta.text;
      return;
    case ReplyDelta::Kind::kCallBegin:
      LAPIDARY_CHECK(index == calls.size());
      calls.push_back({delta.text, {}});
      return;
    case ReplyDelta::Kind::kCallArguments:
      calls.at(index).arguments_json += delta.text;
      return;
    case ReplyDelta::Kind::kCallEnd:
      calls.at(index).is_complete = true;
      return;
  }
}

Reply parse_reply(ReplyFormat format, std::string_view text, std::string_view prompt_tail) {
  const std::unique_ptr<ReplyParser> parser = ReplyParser::make(format, prompt_tail);
  std::vector<ReplyDelta> deltas;
  parser->push(text, deltas);
  parser->finish(deltas);
  Reply reply;
  for (const ReplyDelta& delta : deltas) reply.add(delta);
  return reply;
}

}  // namespace lapidary
