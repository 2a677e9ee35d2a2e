// The outer object is walked here, keys and values by JsonText.
#include "runtime/text/json_call.h"

#include <nlohmann/json.hpp>

namespace lapidary {
namespace {

constexpr size_t kMaxNameBytes = 256;

// The text of a JSON string, or none.
std::optional<std::string> string_of(const std::string& json) {
  const auto value = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  return value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
}

}  // namespace

JsonCall::Progress JsonCall::push(std::string_view& text, bool is_end, ReplyWriter& writer) {
  Progress progress = Progress::kMore;
  while (progress == Progress::kMore && !text.empty()) {
    if (!end_.empty() && text.front() == '<' && !is_in_string()) {
      const MarkerMatch match = match_marker(text, std::span(&end_, 1), is_end);
      if (match.is_unclear) break;
      progress = match.marker && end(writer) ? Progress::kDone : Progress::kBroken;
      break;
    }
    bool was_taken = true;
    const char c = text.front();
    const bool had_begun = has_begun_;
    progress = take(c, writer, was_taken);
    if (progress == Progress::kBroken) break;
    if (!was_taken) continue;
    if (!had_begun) taken_ += c;
    text.remove_prefix(1);
  }
  if (has_begun_) flush_arguments(writer);
  if (progress == Progress::kDone) writer.end_call();
  return progress;
}

JsonCall::Progress JsonCall::take(char c, ReplyWriter& writer, bool& was_taken) {
  if (at_ == At::kInKey || at_ == At::kValue) return take_value(c, writer, was_taken);
  if (is_json_space(c)) return Progress::kMore;
  const bool is_closing = c == '}';
  switch (at_) {
    case At::kOpen:
      if (c != '{') return Progress::kBroken;
      at_ = At::kFirstKey;
      return Progress::kMore;
    case At::kColon:
      if (c != ':') return Progress::kBroken;
      at_ = At::kValue;
      value_ = {};
      value_text_.clear();
      return Progress::kMore;
    case At::kBehind:
      if (is_closing) return end(writer) ? Progress::kDone : Progress::kBroken;
      if (c != ',') return Progress::kBroken;
      at_ = At::kKey;
      return Progress::kMore;
    default:
      break;
  }
  if (c != '"') return Progress::kBroken;
  at_ = At::kInKey;
  value_ = {};
  value_text_.clear();
  value_.take(c, value_text_);
  return Progress::kMore;
}

JsonCall::Progress JsonCall::take_value(char c, ReplyWriter& writer, bool& was_taken) {
  const bool is_arguments = at_ == At::kValue && member_ == Member::kArguments;
  if (is_arguments && !value_.has_begun() && c == '{') is_object_ = true;
  std::string& out = is_arguments && is_object_ ? arguments_ : value_text_;
  const JsonText::Step step = value_.take(c, out);
  if (step == JsonText::Step::kBroken) return Progress::kBroken;
  if (is_arguments && is_object_ && has_name_ && !has_begun_) {
    writer.begin_call(name_);
    has_begun_ = true;
  }
  if (step == JsonText::Step::kTaken) return Progress::kMore;
  was_taken = step == JsonText::Step::kComplete;
  if (at_ == At::kInKey) return end_key() ? Progress::kMore : Progress::kBroken;
  at_ = At::kBehind;
  return end_value() ? Progress::kMore : Progress::kBroken;
}

bool JsonCall::end_key() {
  at_ = At::kColon;
  const std::optional<std::string> key = string_of(value_text_);
  if (!key) return false;
  if (*key == "name") {
    member_ = Member::kName;
    return !has_name_;
  }
  if (*key == "arguments" || *key == "parameters") {
    member_ = Member::kArguments;
    is_object_ = false;
    return !has_arguments_;
  }
  member_ = Member::kOther;
  return !only_known_ || *key == "type" || *key == "id";
}

bool JsonCall::end_value() {
  if (member_ == Member::kName) {
    const std::optional<std::string> name = string_of(value_text_);
    if (!name || name->empty() || name->size() > kMaxNameBytes) return false;
    name_ = *name;
    has_name_ = true;
  } else if (member_ == Member::kArguments) {
    has_arguments_ = true;
    if (is_object_) return true;
    if (value_text_ == "null") {
      arguments_ = "{}";
      return true;
    }
    const std::optional<std::string> inner = string_of(value_text_);
    if (!inner) return false;
    JsonText object;
    auto step = JsonText::Step::kTaken;
    for (const char c : *inner) {
      if (step == JsonText::Step::kComplete) {
        if (!is_json_space(c)) return false;
        continue;
      }
      step = object.take(c, arguments_);
      if (step == JsonText::Step::kBroken || step == JsonText::Step::kBehind) return false;
    }
    return step == JsonText::Step::kComplete && arguments_.starts_with('{');
  }
  return true;
}

// The closing brace, or the markup that ends a call.
bool JsonCall::end(ReplyWriter& writer) {
  if (at_ == At::kValue && member_ == Member::kArguments && is_object_) {
    if (!value_.close(arguments_)) return false;
  } else if (at_ != At::kBehind) {
    return false;
  }
  if (!has_name_) return false;
  if (!has_begun_) {
    if (only_known_ && !has_arguments_) return false;
    writer.begin_call(name_);
    has_begun_ = true;
    if (arguments_.empty()) arguments_ = "{}";
  }
  return true;
}

void JsonCall::flush_arguments(ReplyWriter& writer) {
  writer.arguments(arguments_);
  arguments_.clear();
}

}  // namespace lapidary
