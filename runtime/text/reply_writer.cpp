// Markers begin with '<' in every family, so text up to the next one needs no second look.
#include "runtime/text/reply_writer.h"

#include "formats/error.h"

namespace lapidary {

bool is_json_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

namespace {

size_t trailing_space(std::string_view text) {
  size_t n = text.size();
  while (n > 0 && is_json_space(text[n - 1])) --n;
  return n;
}

}  // namespace

void ReplyWriter::emit(ReplyDelta::Kind kind, std::string_view text, int call_index) {
  if (!out_->empty() && out_->back().kind == kind && out_->back().call_index == call_index)
    out_->back().text += text;
  else
    out_->push_back({kind, std::string(text), call_index});
}

void ReplyWriter::content(std::string_view text) {
  const size_t n = trailing_space(text);
  if (n > 0) {
    if (is_behind_markup_ && !has_content_) {  // spaces between a thought and the answer
      content_space_.clear();
      while (is_json_space(text.front())) text.remove_prefix(1);
    }
    emit(ReplyDelta::Kind::kContent, content_space_);
    content_space_.clear();
    const size_t left = trailing_space(text);
    emit(ReplyDelta::Kind::kContent, text.substr(0, left));
    text.remove_prefix(left);
    has_content_ = true;
    is_behind_markup_ = false;
  }
  content_space_ += text;
}

void ReplyWriter::reasoning(std::string_view text) {
  const size_t n = trailing_space(text);
  if (n > 0) {
    if (is_thought_new_) {
      reasoning_space_.assign(has_reasoning_ ? 1 : 0, '\n');  // between two thoughts
      while (is_json_space(text.front())) text.remove_prefix(1);
    }
    emit(ReplyDelta::Kind::kReasoning, reasoning_space_);
    reasoning_space_.clear();
    const size_t left = trailing_space(text);
    emit(ReplyDelta::Kind::kReasoning, text.substr(0, left));
    text.remove_prefix(left);
    has_reasoning_ = true;
    is_thought_new_ = false;
  }
  reasoning_space_ += text;
}

void ReplyWriter::begin_thought() {
  is_behind_markup_ = true;
  is_thought_new_ = true;
}
void ReplyWriter::end_thought() {
  is_behind_markup_ = true;
  reasoning_space_.clear();
}

void ReplyWriter::begin_call(std::string name) {
  is_behind_markup_ = true;
  emit(ReplyDelta::Kind::kCallBegin, name, n_calls_++);
}
void ReplyWriter::arguments(std::string_view json) {
  if (!json.empty()) emit(ReplyDelta::Kind::kCallArguments, json, n_calls_ - 1);
}
void ReplyWriter::end_call() { emit(ReplyDelta::Kind::kCallEnd, {}, n_calls_ - 1); }

void ReplyWriter::finish() {
  if (!is_behind_markup_ && !content_space_.empty())
    emit(ReplyDelta::Kind::kContent, content_space_);
  content_space_.clear();
}

MarkerMatch match_marker(std::string_view text, std::span<const std::string_view> markers,
                         bool is_end) {
  MarkerMatch match;
  for (size_t i = 0; i < markers.size(); ++i) {
    if (text.starts_with(markers[i])) return {.marker = i};
    if (!is_end && markers[i].starts_with(text)) match.is_unclear = true;
  }
  return match;
}

size_t find_marker(std::string_view text, std::span<const std::string_view> markers, bool is_end) {
  size_t at = text.find('<');
  for (; at != std::string_view::npos; at = text.find('<', at + 1)) {
    const MarkerMatch match = match_marker(text.substr(at), markers, is_end);
    if (match.marker || match.is_unclear) return at;
  }
  return text.size();
}

void BufferedReplyParser::push(std::string_view text, std::vector<ReplyDelta>& out) {
  buffer_ += text;
  run(out, false);
}

void BufferedReplyParser::finish(std::vector<ReplyDelta>& out) {
  run(out, true);
  end();
  writer_.finish();
}

void BufferedReplyParser::run(std::vector<ReplyDelta>& out, bool is_end) {
  writer_.write_to(out);
  std::string_view rest = buffer_;
  while (!rest.empty() && step(rest, is_end)) {
  }
  LAPIDARY_CHECK(!is_end || rest.empty());
  buffer_.erase(0, buffer_.size() - rest.size());
}

}  // namespace lapidary
