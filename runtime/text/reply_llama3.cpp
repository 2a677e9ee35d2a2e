// Llama 3.1 and later: a reply that is a JSON object with a name and parameters is a call, also
// behind <|python_tag|>; several stand behind each other, with ; or white space between.
//
// No marker tells a call from an answer in JSON, so the object is held back until its first
// members do. Source: the template of Llama 3.1 and its page of prompt formats.
#include <array>
#include <optional>

#include "runtime/text/json_call.h"
#include "runtime/text/reply_families.h"
#include "runtime/text/reply_writer.h"

namespace lapidary {
namespace {

constexpr std::string_view kTag = "<|python_tag|>";
constexpr std::array kMarkers{kTag};

class Llama3Parser final : public BufferedReplyParser {
 private:
  enum class At { kStart, kText, kBehindTag, kCall };

  bool step(std::string_view& rest, bool is_end) override {
    switch (at_) {
      case At::kStart:
      case At::kBehindTag:
        return start(rest);
      case At::kText:
        return text(rest, is_end);
      case At::kCall:
        return call(rest, is_end);
    }
    return false;
  }

  // At the beginning, behind a call or behind the tag: a call may come.
  bool start(std::string_view& rest) {
    const char c = rest.front();
    if (c == '{') {
      call_.emplace(std::string_view(), /*only_known=*/true);
      is_tagged_ = at_ == At::kBehindTag;
      at_ = At::kCall;
    } else if (is_json_space(c)) {
      writer_.content(rest.substr(0, 1));
      rest.remove_prefix(1);
    } else if (c == ';' && has_calls_ && at_ == At::kStart) {
      rest.remove_prefix(1);
    } else {
      if (at_ == At::kBehindTag) writer_.content(kTag);
      at_ = At::kText;
    }
    return true;
  }

  bool text(std::string_view& rest, bool is_end) {
    const size_t n = find_marker(rest, kMarkers, is_end);
    writer_.content(rest.substr(0, n));
    rest.remove_prefix(n);
    if (!match_marker(rest, kMarkers, is_end).marker) return false;
    rest.remove_prefix(kTag.size());
    at_ = At::kBehindTag;
    return true;
  }

  bool call(std::string_view& rest, bool is_end) {
    const JsonCall::Progress progress = call_->push(rest, is_end, writer_);
    if (progress == JsonCall::Progress::kMore) return false;
    const bool is_done = progress == JsonCall::Progress::kDone;
    if (!is_done) give_up_call();
    has_calls_ |= is_done;
    at_ = is_done ? At::kStart : At::kText;
    return true;
  }

  void end() override {
    if (at_ == At::kBehindTag) writer_.content(kTag);
    if (at_ == At::kCall) give_up_call();
  }

  void give_up_call() {
    if (call_->has_begun()) return;
    if (is_tagged_) writer_.content(kTag);
    writer_.content(call_->taken());
  }

  At at_ = At::kStart;
  bool is_tagged_ = false, has_calls_ = false;
  std::optional<JsonCall> call_;
};

}  // namespace

std::unique_ptr<ReplyParser> make_llama3_parser() { return std::make_unique<Llama3Parser>(); }

}  // namespace lapidary
