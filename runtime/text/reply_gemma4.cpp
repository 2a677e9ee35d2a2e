// Gemma 4: <|channel>thought\n ... <channel|>, then text, then any number of
// <|tool_call>call:NAME{...}<tool_call|>.
//
// Models also write an empty channel when they were told not to think, a closing one without its
// opening, calls inside a thought that they forgot to close, and the beginning of the tool's
// response, where they are meant to stop: all of it is taken for what was meant.
#include <optional>

#include "runtime/text/call_dialect.h"
#include "runtime/text/reply_families.h"
#include "runtime/text/reply_writer.h"

namespace lapidary {

const GemmaMarkers kGemma4Markers{"<|channel>",   "<channel|>",       "<|tool_call>",
                                  "<tool_call|>", "<|tool_response>", "<|\"|>"};

namespace {

constexpr std::string_view kLabel = "thought";
constexpr size_t kMaxNameBytes = 256;

std::string_view without_space(std::string_view text) {
  while (!text.empty() && is_json_space(text.front())) text.remove_prefix(1);
  return without_trailing_space(text);
}

class GemmaParser final : public BufferedReplyParser {
 public:
  GemmaParser(const GemmaMarkers& markers, bool is_thinking) : markers_(markers) {
    for (const std::string_view m : {markers.call_begin, markers.call_end, markers.response_begin,
                                     markers.thought_begin, markers.thought_end})
      if (!m.empty()) all_.push_back(m);
    if (is_thinking) at_ = At::kThought;
  }

 private:
  enum class At { kText, kCall, kArguments, kLabel, kThought };

  bool step(std::string_view& rest, bool is_end) override {
    switch (at_) {
      case At::kText:
      case At::kThought:
        return text(rest, is_end);
      case At::kLabel:
        return label(rest, is_end);
      case At::kCall:
        return call(rest, is_end);
      case At::kArguments:
        return arguments(rest, is_end);
    }
    return false;
  }

  bool text(std::string_view& rest, bool is_end) {
    const size_t n = find_marker(rest, all_, is_end);
    if (at_ == At::kText)
      writer_.content(rest.substr(0, n));
    else
      writer_.reasoning(rest.substr(0, n));
    rest.remove_prefix(n);
    const MarkerMatch match = match_marker(rest, all_, is_end);
    if (!match.marker) return false;
    const std::string_view marker = all_[*match.marker];
    if (at_ == At::kThought && (marker == markers_.thought_end || marker == markers_.call_begin)) {
      writer_.end_thought();
      at_ = At::kText;
    }
    if (marker == markers_.call_begin) {
      at_ = At::kCall;
      return true;
    }
    if (marker == markers_.thought_begin && at_ == At::kText) {
      writer_.begin_thought();
      at_ = At::kLabel;
    }
    rest.remove_prefix(marker.size());
    return true;
  }

  bool label(std::string_view& rest, bool is_end) {
    if (!is_end && rest.size() <= kLabel.size() && kLabel.starts_with(rest)) return false;
    if (rest.starts_with(kLabel)) {
      const std::string_view behind = rest.substr(kLabel.size());
      if (behind.empty() || behind[0] == '\n' || behind[0] == '<') rest = behind;
    }
    at_ = At::kThought;
    return true;
  }

  // From the marker to the brace; what does not go on as a call is text.
  bool call(std::string_view& rest, bool is_end) {
    static constexpr std::string_view kCall = "call:";
    const std::string_view behind = rest.substr(markers_.call_begin.size());
    const std::string_view begin = behind.substr(0, kCall.size());
    const size_t brace = behind.find_first_of("{<\n");
    const bool is_open = brace != std::string_view::npos && behind[brace] == '{' &&
                         brace <= kCall.size() + kMaxNameBytes && behind.starts_with(kCall);
    if (const std::string_view name =
            is_open ? without_space(behind.substr(kCall.size(), brace - kCall.size()))
                    : std::string_view();
        !name.empty()) {
      writer_.begin_call(std::string(name));
      rest = behind.substr(brace);
      arguments_.emplace(markers_.quote, markers_.call_end);
      at_ = At::kArguments;
      return true;
    }
    if (!is_end && kCall.starts_with(begin) && brace == std::string_view::npos &&
        behind.size() <= kCall.size() + kMaxNameBytes)
      return false;
    writer_.content(markers_.call_begin);
    rest = behind;
    at_ = At::kText;
    return true;
  }

  bool arguments(std::string_view& rest, bool is_end) {
    std::string json;
    const CallArguments::Progress progress = arguments_->push(rest, is_end, json);
    writer_.arguments(json);
    if (progress == CallArguments::Progress::kMore) return false;
    if (progress == CallArguments::Progress::kDone) writer_.end_call();
    at_ = At::kText;
    return true;
  }

  GemmaMarkers markers_;
  std::vector<std::string_view> all_;
  At at_ = At::kText;
  std::optional<CallArguments> arguments_;
};

}  // namespace

std::unique_ptr<ReplyParser> make_gemma_parser(const GemmaMarkers& markers, bool is_thinking) {
  return std::make_unique<GemmaParser>(markers, is_thinking);
}

}  // namespace lapidary
