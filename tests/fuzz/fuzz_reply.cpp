// Any bytes as a model's reply, in every family and in pieces: never an Error, and the arguments of
// every call that was ended are JSON.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/text/json_text.h"
#include "runtime/text/reply_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const ReplyFormat format : {ReplyFormat::kGemma4, ReplyFormat::kFunctionGemma,
                                   ReplyFormat::kLlama3, ReplyFormat::kQwen3}) {
    const auto parser = ReplyParser::make(format);
    std::vector<ReplyDelta> deltas;
    for (size_t at = 0, n; at < size; at += n)
      parser->push(text.substr(at, n = 1 + data[at] % 16), deltas);
    parser->finish(deltas);
    Reply reply;
    for (const ReplyDelta& delta : deltas) reply.add(delta);
    for (const Reply::Call& call : reply.calls) {
      if (!call.is_complete) continue;
      JsonText json;
      std::string copy;
      for (const char c : call.arguments_json)
        if (json.take(c, copy) == JsonText::Step::kBroken) std::abort();
      if (!json.close(copy) || copy != call.arguments_json) std::abort();
    }
  }
  return 0;
}
