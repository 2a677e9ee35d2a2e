// A push-down automaton over bytes. Source: RFC 8259.
#include "runtime/text/json_text.h"

#include <fmt/format.h>

#include "runtime/text/reply_writer.h"

namespace lapidary {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_of_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '-' ||
         c == '.';
}

}  // namespace

void append_json_escaped(std::string& json, std::string_view text) {
  static constexpr std::string_view kCodes = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  for (const char c : text) {
    if (const size_t i = kCodes.find(c); i != std::string_view::npos) {
      json += '\\';
      json += kLetters[i];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      json += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      json += c;
    }
  }
}

bool is_json_number(std::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t first = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at > first;
  };
  if (at < text.size() && text[at] == '-') ++at;
  const bool has_leading_zero = at < text.size() && text[at] == '0';
  const size_t first = at;
  if (!digits() || (has_leading_zero && at > first + 1)) return false;
  if (at < text.size() && text[at] == '.')
    if (++at; !digits()) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    if (++at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (!digits()) return false;
  }
  return at == text.size();
}

void JsonStringText::give_up_pair(std::string& out) {
  if (!high_.empty()) out += "\\ufffd";
  high_.clear();
}

JsonStringText::Step JsonStringText::take(char c, std::string& out) {
  if (!escape_.empty()) return take_in_escape(c, out);
  if (c == '\\') {
    escape_ = c;
    return Step::kTaken;
  }
  give_up_pair(out);
  if (c == '"') {
    out += c;
    return Step::kClosed;
  }
  append_json_escaped(out, {&c, 1});
  return Step::kTaken;
}

JsonStringText::Step JsonStringText::take_in_escape(char c, std::string& out) {
  escape_ += c;
  if (escape_.size() == 2) {
    if (c == 'u') return Step::kTaken;
    if (std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos) return Step::kBroken;
    give_up_pair(out);
    out += escape_;
    escape_.clear();
    return Step::kTaken;
  }
  if (!is_hex(c)) return Step::kBroken;
  if (escape_.size() < 6) return Step::kTaken;
  const int code = std::stoi(escape_.substr(2), nullptr, 16);
  const bool is_high = code >= 0xD800 && code < 0xDC00, is_low = code >= 0xDC00 && code < 0xE000;
  if (is_low && !high_.empty()) {
    out += high_ + escape_;
    high_.clear();
  } else {
    give_up_pair(out);
    if (is_high)
      high_ = escape_;
    else
      out += is_low ? "\\ufffd" : escape_;
  }
  escape_.clear();
  return Step::kTaken;
}

void JsonText::begin_string(bool is_key) {
  is_key_ = is_key;
  string_ = {};
  at_ = At::kString;
}

JsonText::Step JsonText::end_of_value() {
  at_ = At::kBehindItem;
  return open_.empty() ? Step::kComplete : Step::kTaken;
}

bool JsonText::end_word(std::string& out) {
  if (!is_json_number(word_) && word_ != "true" && word_ != "false" && word_ != "null")
    return false;
  out += word_;
  word_.clear();
  at_ = At::kBehindItem;
  return true;
}

JsonText::Step JsonText::take(char c, std::string& out) {
  if (is_in_string()) {
    const JsonStringText::Step step = string_.take(c, out);
    if (step == JsonStringText::Step::kBroken) return Step::kBroken;
    if (step == JsonStringText::Step::kTaken) return Step::kTaken;
    if (!is_key_) return end_of_value();
    at_ = At::kColon;
    return Step::kTaken;
  }
  if (at_ == At::kWord) {
    if (is_of_word(c)) {
      word_ += c;
      return Step::kTaken;
    }
    if (!end_word(out)) return Step::kBroken;
    if (open_.empty()) return Step::kBehind;
  }
  if (is_json_space(c)) {
    if (has_begun()) out += c;
    return Step::kTaken;
  }
  switch (at_) {
    case At::kFirstItem:
      if (c == ']') return take_behind(c, out);
      return take_value(c, out);
    case At::kValue:
      return take_value(c, out);
    case At::kFirstKey:
      if (c == '}') return take_behind(c, out);
      [[fallthrough]];
    case At::kKey:
      if (c != '"') return Step::kBroken;
      begin_string(/*is_key=*/true);
      break;
    case At::kColon:
      if (c != ':') return Step::kBroken;
      at_ = At::kValue;
      break;
    default:
      return take_behind(c, out);
  }
  out += c;
  return Step::kTaken;
}

JsonText::Step JsonText::take_value(char c, std::string& out) {
  if (is_of_word(c)) {
    word_ = c;
    at_ = At::kWord;
    return Step::kTaken;
  }
  if (c == '"') {
    begin_string(/*is_key=*/false);
  } else if (c == '{' || c == '[') {
    if (open_.size() == kMaxDepth) return Step::kBroken;
    open_.push_back(c);
    at_ = c == '{' ? At::kFirstKey : At::kFirstItem;
  } else {
    return Step::kBroken;
  }
  out += c;
  return Step::kTaken;
}

JsonText::Step JsonText::take_behind(char c, std::string& out) {
  if (open_.empty()) return Step::kBehind;
  const bool is_object = open_.back() == '{';
  if (c == ',' && at_ == At::kBehindItem) {
    at_ = is_object ? At::kKey : At::kValue;
    out += c;
    return Step::kTaken;
  }
  if (c != (is_object ? '}' : ']')) return Step::kBroken;
  open_.pop_back();
  out += c;
  return end_of_value();
}

bool JsonText::close(std::string& out) {
  if (at_ == At::kWord && !end_word(out)) return false;
  if (at_ != At::kBehindItem && at_ != At::kFirstItem && at_ != At::kFirstKey) return false;
  for (; !open_.empty(); open_.pop_back()) out += open_.back() == '{' ? '}' : ']';
  return true;
}

}  // namespace lapidary
