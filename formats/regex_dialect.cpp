// From Oniguruma's Ruby syntax to PCRE2's: the differences that tokenizer patterns can meet.
//
// Sources: Oniguruma's doc/RE and doc/SYNTAX.md; pcre2pattern(3), "Unicode character properties".
#include "formats/error.h"
#include "formats/regex_unicode.h"
#include "formats/split_regex.h"

namespace lapidary {
namespace {

// Unicode White_Space, and its complement. PCRE2's \s also takes U+180E.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// Word characters: Alphabetic (letters, letter numbers, circled letters), marks, decimal digits,
// connectors, and the numbers of Latin-1, which Oniguruma counts in. PCRE2 10.42's \w is letters,
// all numbers and the underscore.
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169})"
    R"(\x{1f170}-\x{1f189})";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const char* what) const {
    fail(ErrorCode::kBadData, "regex '{}': {} at byte {} is not supported", in_, what, at_);
  }
  bool starts(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }
  void put(std::string_view text, size_t consumed) {
    out_ += text;
    at_ += consumed;
  }
  // A set of characters, whether we stand inside a class already or not.
  void put_set(std::string_view members, bool negated = false) {
    if (in_class_)
      put(members, 2);
    else
      put(std::string(negated ? "[^" : "[") + std::string(members) + "]", 2);
  }

  static std::string digits() { return R"(\p{Nd})" + unicode_additions("Nd"); }
  static std::string word() {
    return std::string(kWord) + unicode_additions("L") + unicode_additions("M") +
           unicode_additions("Nd");
  }

  void escape() {
    if (at_ + 1 >= in_.size()) refuse("a backslash at the end");
    switch (in_[at_ + 1]) {
      case 's':
        return put_set(kSpaces);
      case 'S':
        return put_set(kNotSpaces);
      case 'd':
        return put_set(digits());
      case 'D':
        if (in_class_) refuse("\\D inside a class");
        return put_set(digits(), true);
      case 'w':
        return put_set(word());
      case 'W':
        if (in_class_) refuse("\\W inside a class");
        return put_set(word(), true);
      case 'h':
        return put_set("0-9a-fA-F");
      case 'H':
        if (in_class_) refuse("\\H inside a class");
        return put_set("0-9a-fA-F", true);
      case 'b':
      case 'B':
        if (!in_class_) refuse("\\b");
        return copy(2);
      case 'u':
        if (at_ + 6 > in_.size()) refuse("a short \\u");
        out_ += "\\x{" + std::string(in_.substr(at_ + 2, 4)) + "}";
        at_ += 6;
        return;
      case 'p':
      case 'P':
        return property();
      default: {
        // Escaped ASCII letters and digits that both dialects read alike; punctuation is literal.
        const char c = in_[at_ + 1];
        const bool letter_or_digit =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        constexpr std::string_view kAlike = "rntfaxAzZ";
        if (letter_or_digit && kAlike.find(c) == std::string_view::npos) refuse("this escape");
        copy(2);
      }
    }
  }

  // \p{L} and \p{^L} pass, with what newer Unicode adds; a name longer than two letters is a
  // script, which PCRE2 would read as a script extension.
  void property() {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos)
      refuse("a property without braces");
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    bool negated = in_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::string braced =
        std::string("{") + (name.size() > 2 ? "sc:" : "") + std::string(name) + "}";
    if (in_class_)
      // Inside a class a complement cannot be spelled together with exceptions.
      out_ += negated ? "\\P" + braced : "\\p" + braced + unicode_additions(name);
    else
      out_ += (negated ? "[^\\p" : "[\\p") + braced + unicode_additions(name) + "]";
    at_ = close + 1;
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') refuse("an empty class");
  }

  void class_character(char c) {
    if (c == '[') refuse("a class inside a class");
    if (starts("&&")) refuse("an intersection of classes");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    if (!starts("(?")) {
      // PCRE2's verbs; Ruby reads the star as a quantifier of nothing.
      if (starts("(*")) refuse("'(*'");
      return copy(1);
    }
    for (const std::string_view alike :
         {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"})
      if (starts(alike)) return copy(alike.size());
    refuse("this kind of group");
  }

  void interval() {
    size_t end = at_ + 1;
    bool comma = false;
    while (end < in_.size() && ((in_[end] >= '0' && in_[end] <= '9') || in_[end] == ',')) {
      comma |= in_[end] == ',';
      ++end;
    }
    if (end >= in_.size() || in_[end] != '}' || end == at_ + 1) return put("\\{", 1);
    // In Ruby {n}+ repeats the repetition and {n}? makes it optional; in PCRE2 they mean possessive
    // and lazy.
    const char next = end + 1 < in_.size() ? in_[end + 1] : '\0';
    if (next == '+' || (next == '?' && !comma)) refuse("a quantifier after an interval");
    if (in_[at_ + 1] == ',') put("{0", 1);
    copy(end + 1 - at_);
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translate_to_pcre2(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace lapidary
