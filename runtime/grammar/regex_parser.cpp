// A recursive-descent parser for the regular part of ECMA-262 patterns.
#include "formats/error.h"
#include "formats/json_guard.h"
#include "formats/utf8.h"
#include "runtime/grammar/regex_syntax.h"

namespace lapidary::grammar {
namespace {

constexpr int kMaxGroups = 200;           // nested; each costs stack
constexpr int64_t kMaxCount = 1'000'000;  // in {m,n}; far beyond what kMaxRegexNodes lets pass

using Kind = RegexNode::Kind;

const CodeSet& digits() {
  static const CodeSet set({{'0', '9'}});
  return set;
}
const CodeSet& word_characters() {
  static const CodeSet set({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
  return set;
}
// WhiteSpace and LineTerminator of ECMA-262.
const CodeSet& spaces() {
  static const CodeSet set({{'\t', '\r'},
                            {' ', ' '},
                            {0xA0, 0xA0},
                            {0x1680, 0x1680},
                            {0x2000, 0x200A},
                            {0x2028, 0x2029},
                            {0x202F, 0x202F},
                            {0x205F, 0x205F},
                            {0x3000, 0x3000},
                            {0xFEFF, 0xFEFF}});
  return set;
}
const CodeSet& line_ends() {
  static const CodeSet set({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
  return set;
}
CodeSet one(char32_t c) { return CodeSet({{c, c}}); }

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  RegexNode parse() {
    if (!is_valid_utf8(pattern_)) fail(ErrorCode::kUsage, "regex: the pattern is not UTF-8");
    RegexNode all = alternatives(0);
    if (at_ < pattern_.size()) wrong("an unmatched )");
    return all;
  }

 private:
  [[noreturn]] void wrong(std::string_view what) const {
    fail(ErrorCode::kUsage, "regex \"{}\": {} at byte {}", excerpt(pattern_), what, at_);
  }
  bool at_end() const { return at_ >= pattern_.size(); }
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    at_ += text.size();
    return true;
  }

  RegexNode alternatives(int depth) {
    if (depth > kMaxGroups) wrong("more than 200 nested groups");
    RegexNode all;
    all.kind = Kind::kAlternatives;
    do all.children.push_back(sequence(depth));
    while (take("|"));
    return all;
  }

  RegexNode sequence(int depth) {
    RegexNode all;
    while (!at_end() && !next_is("|") && !next_is(")")) all.children.push_back(repeated(depth));
    return all;
  }

  RegexNode repeated(int depth) {
    RegexNode item = atom(depth);
    int64_t least, most;
    if (!count(least, most)) return item;
    if (item.kind == Kind::kStart || item.kind == Kind::kEnd) wrong("a repeated anchor");
    if (take("+")) wrong("a possessive quantifier, which is not supported,");
    take("?");  // lazy: the same texts
    if (next_is("*") || next_is("+") || next_is("?")) wrong("a quantifier after a quantifier");
    RegexNode repeat;
    repeat.kind = Kind::kRepeat;
    repeat.least = least;
    repeat.most = most;
    repeat.children.push_back(std::move(item));
    return repeat;
  }

  bool count(int64_t& least, int64_t& most) {
    if (take("*")) return least = 0, most = -1, true;
    if (take("+")) return least = 1, most = -1, true;
    if (take("?")) return least = 0, most = 1, true;
    if (!take("{")) return false;
    least = number();
    most = least;
    if (take(",")) most = next_is("}") ? -1 : number();
    if (!take("}")) wrong("{ without a count such as {2}, {2,} or {2,5} (write \\{ for the sign)");
    if (most >= 0 && most < least) wrong("a count {m,n} with m over n");
    return true;
  }

  int64_t number() {
    if (at_end() || pattern_[at_] < '0' || pattern_[at_] > '9')
      wrong("{ without a count such as {2}, {2,} or {2,5} (write \\{ for the sign)");
    int64_t value = 0;
    for (; !at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_)
      if ((value = value * 10 + (pattern_[at_] - '0')) > kMaxCount) wrong("a count over 1000000");
    return value;
  }

  RegexNode atom(int depth) {
    if (take("(")) return group(depth);
    if (take("[")) return set(char_class());
    if (take(".")) return set(line_ends().complement());
    if (take("^")) return anchor(Kind::kStart);
    if (take("$")) return anchor(Kind::kEnd);
    if (take("\\")) return set(escape(false));
    if (next_is("*") || next_is("+") || next_is("?") || next_is("{"))
      wrong("a quantifier with nothing before it");
    return set(one(next_code_point(pattern_, at_)));
  }

  RegexNode group(int depth) {
    if (take("?")) {
      if (next_is("=") || next_is("!")) wrong("look-ahead, which is not supported,");
      if (next_is("<=") || next_is("<!")) wrong("look-behind, which is not supported,");
      if (take("<") || take("P<")) {
        const size_t end = pattern_.find('>', at_);
        if (end == std::string_view::npos) wrong("a group name without >");
        at_ = end + 1;
      } else if (!take(":")) {
        wrong("(? with something other than : or <name>, which is not supported,");
      }
    }
    RegexNode inside = alternatives(depth + 1);
    if (!take(")")) wrong("( without )");
    return inside;
  }

  static RegexNode set(CodeSet which) {
    RegexNode node;
    node.kind = Kind::kSet;
    node.set = std::move(which);
    return node;
  }
  static RegexNode anchor(Kind kind) {
    RegexNode node;
    node.kind = kind;
    return node;
  }

  char32_t hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char c = at_end() ? '\0' : pattern_[at_];
      if (c >= '0' && c <= '9')
        value = value * 16 + static_cast<char32_t>(c - '0');
      else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
        value = value * 16 + static_cast<char32_t>((c | 0x20) - 'a' + 10);
      else
        wrong("an escape with too few hexadecimal digits");
    }
    return value;
  }

  char32_t unicode_escape() {
    if (take("{")) {
      const size_t end = pattern_.find('}', at_);
      if (end == std::string_view::npos || end == at_ || end - at_ > 6) wrong("a bad \\u{...}");
      const char32_t c = hex(static_cast<int>(end - at_));
      ++at_;
      if (c > kLastCodePoint) wrong("a \\u{...} beyond Unicode");
      return c;
    }
    const char32_t high = hex(4);
    if (high < 0xD800 || high > 0xDFFF) return high;
    const char32_t low = high < 0xDC00 && take("\\u") ? hex(4) : 0;
    if (low < 0xDC00 || low > 0xDFFF) wrong("a lone surrogate");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  // After the backslash.
  CodeSet escape(bool in_class) {
    if (at_end()) wrong("\\ at the end");
    const char32_t c = next_code_point(pattern_, at_);
    switch (c) {
      case 'd':
        return digits();
      case 'D':
        return digits().complement();
      case 'w':
        return word_characters();
      case 'W':
        return word_characters().complement();
      case 's':
        return spaces();
      case 'S':
        return spaces().complement();
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'v':
        return one('\v');
      case 'f':
        return one('\f');
      case 'r':
        return one('\r');
      case 'x':
        return one(hex(2));
      case 'u':
        return one(unicode_escape());
      case 'b':
        if (in_class) return one('\b');
        [[fallthrough]];
      case 'B':
        wrong("a word boundary, which is not supported,");
      case 'k':
        wrong("a back-reference, which is not supported,");
      case 'p':
      case 'P':
        wrong("a Unicode property class, which is not supported,");
      case 'c':
        if (!at_end()) {
          const char letter = static_cast<char>(pattern_[at_] | 0x20);
          if (letter >= 'a' && letter <= 'z') {
            ++at_;
            return one(static_cast<char32_t>(letter - 'a' + 1));
          }
        }
        wrong("\\c without a letter");
      default:
        break;
    }
    if (c == '0' && (at_end() || pattern_[at_] < '0' || pattern_[at_] > '9')) return one(0);
    if (c >= '0' && c <= '9') wrong("a back-reference, which is not supported,");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) wrong("an unknown escape");
    return one(c);
  }

  // After the bracket.
  CodeSet char_class() {
    const bool negated = take("^");
    std::vector<CodeRange> ranges;
    CodeSet whole;
    while (!take("]")) {
      if (at_end()) wrong("[ without ]");
      const CodeSet first = class_item();
      const bool is_range = next_is("-") && !pattern_.substr(at_).starts_with("-]");
      if (!is_range) {
        ranges.insert(ranges.end(), first.ranges().begin(), first.ranges().end());
        continue;
      }
      take("-");
      if (at_end()) wrong("[ without ]");
      const CodeSet last = class_item();
      if (!is_single(first) || !is_single(last)) wrong("a range that does not join two characters");
      const CodeRange range{first.ranges()[0].low, last.ranges()[0].low};
      if (range.low > range.high) wrong("a range from a higher to a lower character");
      ranges.push_back(range);
    }
    whole = CodeSet(std::move(ranges));
    if (negated) whole = whole.complement();
    if (whole.empty()) wrong("a class that no character is in");
    return whole;
  }
  CodeSet class_item() {
    if (take("\\")) return escape(true);
    return one(next_code_point(pattern_, at_));
  }
  static bool is_single(const CodeSet& s) {
    return s.ranges().size() == 1 && s.ranges()[0].low == s.ranges()[0].high;
  }

  std::string_view pattern_;
  size_t at_ = 0;
};

}  // namespace

RegexNode parse_regex(std::string_view pattern) { return Parser(pattern).parse(); }

}  // namespace lapidary::grammar
