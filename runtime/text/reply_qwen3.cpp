// Qwen3: <think>\n ... \n</think>\n\n, then text, then any number of
// <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>.
//
// A thought may mention calls, so there <tool_call> is text. Some templates open the thought in the
// prompt.
#include <array>
#include <optional>

#include "runtime/text/json_call.h"
#include "runtime/text/reply_families.h"
#include "runtime/text/reply_writer.h"

namespace lapidary {
namespace {

constexpr std::string_view kThink = "<think>", kEndThink = "</think>", kCall = "<tool_call>",
                           kEndCall = "</tool_call>";
constexpr std::array kInText{kThink, kEndThink, kCall, kEndCall};
constexpr std::array kInThought{kEndThink};

class Qwen3Parser final : public BufferedReplyParser {
 public:
  explicit Qwen3Parser(bool is_thinking) : at_(is_thinking ? At::kThought : At::kText) {}

 private:
  enum class At { kText, kThought, kCall };

  bool step(std::string_view& rest, bool is_end) override {
    if (at_ == At::kText) return text(rest, is_end);
    if (at_ == At::kThought) return thought(rest, is_end);
    return call(rest, is_end);
  }

  bool text(std::string_view& rest, bool is_end) {
    const size_t n = find_marker(rest, kInText, is_end);
    writer_.content(rest.substr(0, n));
    rest.remove_prefix(n);
    const MarkerMatch match = match_marker(rest, kInText, is_end);
    if (!match.marker) return false;
    const std::string_view marker = kInText[*match.marker];
    rest.remove_prefix(marker.size());
    if (marker == kThink) {
      writer_.begin_thought();
      at_ = At::kThought;
    } else if (marker == kCall) {
      call_.emplace(kEndCall, /*only_known=*/false);
      at_ = At::kCall;
    }
    return true;
  }

  bool thought(std::string_view& rest, bool is_end) {
    const size_t n = find_marker(rest, kInThought, is_end);
    writer_.reasoning(rest.substr(0, n));
    rest.remove_prefix(n);
    if (!match_marker(rest, kInThought, is_end).marker) return false;
    rest.remove_prefix(kEndThink.size());
    writer_.end_thought();
    at_ = At::kText;
    return true;
  }

  bool call(std::string_view& rest, bool is_end) {
    const JsonCall::Progress progress = call_->push(rest, is_end, writer_);
    if (progress == JsonCall::Progress::kMore) return false;
    if (progress == JsonCall::Progress::kBroken) give_up_call();
    at_ = At::kText;
    return true;
  }

  void end() override {
    if (at_ == At::kCall) give_up_call();
  }

  void give_up_call() {
    if (call_->has_begun()) return;
    writer_.content(kCall);
    writer_.content(call_->taken());
  }

  At at_;
  std::optional<JsonCall> call_;
};

}  // namespace

std::unique_ptr<ReplyParser> make_qwen3_parser(bool is_thinking) {
  return std::make_unique<Qwen3Parser>(is_thinking);
}

}  // namespace lapidary
