// A push-down automaton over bytes and two markers.
#include "runtime/text/call_dialect.h"

#include "runtime/text/reply_writer.h"

namespace lapidary {

using Progress = CallArguments::Progress;

Progress CallArguments::push(std::string_view& text, bool is_end, std::string& json) {
  Progress progress = Progress::kMore;
  while (progress == Progress::kMore && !text.empty()) {
    if (at_ == At::kMarked) {  // the one place where long stretches need no look at each byte
      const size_t n = find_marker(text, std::span(markers_, 1), is_end);
      append_json_escaped(json, text.substr(0, n));
      text.remove_prefix(n);
      if (text.empty()) break;
    }
    if (text.front() == '<' && at_ != At::kQuoted) {
      const size_t n_markers = at_ == At::kMarked ? 1 : 2;
      const MarkerMatch match = match_marker(text, std::span(markers_, n_markers), is_end);
      if (match.marker) {
        progress = take_marker(static_cast<Marker>(*match.marker), json);
        if (progress == Progress::kMore) text.remove_prefix(markers_[*match.marker].size());
        continue;
      }
      if (match.is_unclear) break;
    }
    bool was_taken = true;
    progress = take(text.front(), was_taken, json);
    if (progress != Progress::kBroken && was_taken) text.remove_prefix(1);
  }
  return progress;
}

Progress CallArguments::take_marker(Marker marker, std::string& json) {
  if (marker == kQuote) {
    if (at_ == At::kMarked) {
      json += '"';
      end_string();
      return Progress::kMore;
    }
    if (at_ == At::kKey || at_ == At::kValue) return begin_string(At::kMarked, json);
    return Progress::kBroken;
  }
  // The end of the call: what is open is closed, but half a string or half a member is no value.
  if (at_ == At::kBare) end_bare(json);
  const bool is_behind_item =
      at_ == At::kBehind || at_ == At::kKey || (at_ == At::kValue && !is_in_object());
  if (!is_behind_item) return Progress::kBroken;
  for (; !open_.empty(); open_.pop_back()) json += open_.back() == '{' ? '}' : ']';
  return Progress::kDone;
}

Progress CallArguments::take(char c, bool& was_taken, std::string& json) {
  if (at_ == At::kQuoted) {
    const JsonStringText::Step step = quoted_.take(c, json);
    if (step == JsonStringText::Step::kBroken) return Progress::kBroken;
    if (step == JsonStringText::Step::kClosed) end_string();
    return Progress::kMore;
  }
  if (at_ == At::kBareKey) {
    if (c == ':') {
      while (is_json_space(bare_.back())) bare_.pop_back();
      append_json_escaped(json, bare_);
      json += "\":";
      at_ = At::kValue;
    } else if (std::string_view("{}[],\n").find(c) != std::string_view::npos) {
      return Progress::kBroken;
    } else {
      bare_ += c;
    }
    return Progress::kMore;
  }
  if (at_ == At::kBare) {
    if (c != ',' && c != '}' && c != ']') {
      bare_ += c;
      return Progress::kMore;
    }
    was_taken = false;
    end_bare(json);
    return Progress::kMore;
  }
  if (is_json_space(c)) return Progress::kMore;
  switch (at_) {
    case At::kOpen:
      if (c != '{') return Progress::kBroken;
      [[fallthrough]];
    case At::kValue:
      if (c == '{' || c == '[') {
        if (open_.size() == kMaxDepth) return Progress::kBroken;
        write_comma(json);
        open_.push_back(c);
        json += c;
        at_ = c == '{' ? At::kKey : At::kValue;
        return Progress::kMore;
      }
      if (c == '"') return begin_string(At::kQuoted, json);
      if (c == ']' && !is_in_object()) return close(c, json);
      if (c == '}' || c == ']' || c == ',') return Progress::kBroken;
      write_comma(json);
      bare_ = c;
      at_ = At::kBare;
      return Progress::kMore;
    case At::kKey:
      if (c == '}') return close(c, json);
      if (c == '"') return begin_string(At::kQuoted, json);
      if (std::string_view("{[],:").find(c) != std::string_view::npos) return Progress::kBroken;
      write_comma(json);
      json += '"';
      bare_ = c;
      at_ = At::kBareKey;
      return Progress::kMore;
    case At::kColon:
      if (c != ':') return Progress::kBroken;
      json += c;
      at_ = At::kValue;
      return Progress::kMore;
    default:
      break;
  }
  if (c != ',') return close(c, json);
  is_comma_seen_ = true;
  at_ = is_in_object() ? At::kKey : At::kValue;
  return Progress::kMore;
}

// Between items of the innermost bracket; a member's value follows its colon.
void CallArguments::write_comma(std::string& json) {
  if (is_comma_seen_) json += ',';
  is_comma_seen_ = false;
}

Progress CallArguments::close(char c, std::string& json) {
  if (c != (is_in_object() ? '}' : ']')) return Progress::kBroken;
  is_comma_seen_ = false;
  open_.pop_back();
  json += c;
  at_ = At::kBehind;
  return open_.empty() ? Progress::kDone : Progress::kMore;
}

Progress CallArguments::begin_string(At how, std::string& json) {
  write_comma(json);
  is_key_ = at_ == At::kKey;
  at_ = how;
  quoted_ = {};
  json += '"';
  return Progress::kMore;
}

void CallArguments::end_string() { at_ = is_key_ ? At::kColon : At::kBehind; }

void CallArguments::end_bare(std::string& json) {
  while (is_json_space(bare_.back())) bare_.pop_back();
  at_ = At::kBehind;
  if (bare_ == "None") bare_ = "null";
  if (bare_ == "True") bare_ = "true";
  if (bare_ == "False") bare_ = "false";
  if (is_json_number(bare_) || bare_ == "null" || bare_ == "true" || bare_ == "false") {
    json += bare_;
    return;
  }
  json += '"';
  append_json_escaped(json, bare_);
  json += '"';
}

}  // namespace lapidary
