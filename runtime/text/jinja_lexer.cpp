// White space rules (Jinja's documentation, "Whitespace Control"): a block or comment tag eats the
// newline behind it; blanks before it go when nothing else stands on the line; `-` eats all white
// space on its side, `+` switches the rule off. The last newline of a template is dropped.
#include "runtime/text/jinja_lexer.h"

#include <fmt/format.h>

#include <charconv>

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/text/jinja_strings.h"

namespace lapidary::jinja {
namespace {

bool is_name_start(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string with_plain_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text();
    tokens_.push_back({TokenKind::kEnd, "", place(), 0, 0});
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool starts(std::string_view s) const { return rest().starts_with(s); }

  // Tokens come in order, so the place only moves forward.
  Place place() { return place_of(at_); }
  Place place_of(size_t at) {
    for (; counted_ < at; ++counted_) {
      if (source_[counted_] == '\n') {
        ++place_.line;
        place_.column = 1;
      } else {
        ++place_.column;
      }
    }
    return place_;
  }
  void add(TokenKind kind, std::string text, size_t at) {
    tokens_.push_back({kind, std::move(text), place_of(at), 0, 0});
  }

  size_t find_tag(size_t from) const {
    for (size_t i = from; (i = source_.find('{', i)) != std::string::npos; ++i)
      if (i + 1 < source_.size() &&
          (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#'))
        return i;
    return source_.size();
  }

  // Text up to the next tag, and the tag.
  void text() {
    const size_t begin = at_;
    const size_t tag = find_tag(at_);
    if (tag == source_.size()) {
      add(TokenKind::kText, source_.substr(begin), begin);
      at_ = tag;
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    size_t end = tag;
    if (sign == '-') {
      end = begin + python_rstrip(std::string_view(source_).substr(begin, tag - begin)).size();
    } else if (sign != '+' && kind != '{') {
      end = without_indentation(begin, tag);
    }
    if (end > begin) add(TokenKind::kText, source_.substr(begin, end - begin), begin);
    at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
    if (kind == '#') return comment(tag);
    if (kind == '%' && raw(tag)) return;
    add(kind == '{' ? TokenKind::kPrintBegin : TokenKind::kBlockBegin, "", tag);
    expression(kind == '{');
  }

  // Where the text before a tag ends when only blanks stand between the line's start and the tag.
  size_t without_indentation(size_t begin, size_t tag) const {
    size_t line = tag;
    while (line > begin && source_[line - 1] != '\n') --line;
    if (line == begin && !line_starting_) return tag;
    const std::string_view before = std::string_view(source_).substr(line, tag - line);
    return python_lstrip(before).empty() ? line : tag;
  }

  // What follows the end of a tag: `-` eats white space, otherwise blocks eat one newline.
  void after_tag(char sign, bool trims_newline) {
    const size_t begin = at_;
    if (sign == '-')
      at_ += rest().size() - python_lstrip(rest()).size();
    else if (trims_newline && sign != '+' && starts("\n"))
      ++at_;
    line_starting_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  void comment(size_t tag) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail_at(place_of(tag), "a comment that never ends");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    at_ = end + 2;
    after_tag(sign == '-' || sign == '+' ? sign : '\0', true);
  }

  // The rest of "%}" or "-%}" at `i`, after blanks; npos if it is not there.
  size_t block_end(size_t i, char& sign) const {
    while (i < source_.size() && (source_[i] == ' ' || source_[i] == '\t' || source_[i] == '\n'))
      ++i;
    sign = i < source_.size() ? source_[i] : '\0';
    if (sign == '-' || sign == '+')
      ++i;
    else
      sign = '\0';
    return source_.compare(i, 2, "%}") == 0 ? i + 2 : std::string::npos;
  }
  static size_t skip_blanks(std::string_view s, size_t i) {
    while (i < s.size() && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n')) ++i;
    return i;
  }

  // {% raw %} ... {% endraw %}; false when the tag is another one.
  bool raw(size_t tag) {
    const size_t word = skip_blanks(source_, at_);
    if (source_.compare(word, 3, "raw") != 0) return false;
    char sign = '\0';
    const size_t body = block_end(word + 3, sign);
    if (body == std::string::npos) return false;
    at_ = body;
    after_tag(sign, false);  // Jinja trims no newline here
    const size_t begin = at_;
    for (size_t i = begin; (i = source_.find("{%", i)) != std::string::npos; ++i) {
      size_t inner = i + 2;
      const char open_sign = inner < source_.size() ? source_[inner] : '\0';
      if (open_sign == '-' || open_sign == '+') ++inner;
      inner = skip_blanks(source_, inner);
      if (source_.compare(inner, 6, "endraw") != 0) continue;
      const size_t after = block_end(inner + 6, sign);
      if (after == std::string::npos) continue;
      size_t end = i;
      if (open_sign == '-')
        end = begin + python_rstrip(std::string_view(source_).substr(begin, i - begin)).size();
      else if (open_sign != '+')
        end = without_indentation(begin, i);
      if (end > begin) add(TokenKind::kText, source_.substr(begin, end - begin), begin);
      at_ = after;
      after_tag(sign, true);
      return true;
    }
    fail_at(place_of(tag), "raw without endraw");
  }

  // Tokens up to the end of the tag.
  void expression(bool is_print) {
    const std::string_view close = is_print ? "}}" : "%}";
    int open_brackets = 0;
    while (true) {
      while (at_ < source_.size() && python_lstrip(rest().substr(0, 1)).empty()) ++at_;
      if (at_ >= source_.size()) fail_at(place(), "the template ends inside a tag");
      if (open_brackets == 0) {
        const char sign = source_[at_];
        const size_t skip = sign == '-' || sign == '+' ? 1 : 0;
        if (rest().substr(skip).starts_with(close) && !(is_print && sign == '+')) {
          add(is_print ? TokenKind::kPrintEnd : TokenKind::kBlockEnd, "", at_);
          at_ += skip + 2;
          return after_tag(skip ? sign : '\0', !is_print);
        }
      }
      const char c = source_[at_];
      if (is_name_start(c)) {
        name();
      } else if (is_digit(c)) {
        number();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        open_brackets += symbol();
        if (open_brackets < 0) fail_at(place(), "a closing bracket that nothing opened");
      }
    }
  }

  void name() {
    const size_t begin = at_;
    while (at_ < source_.size() && (is_name_start(source_[at_]) || is_digit(source_[at_]))) ++at_;
    add(TokenKind::kName, source_.substr(begin, at_ - begin), begin);
  }

  // Returns the change in open brackets.
  int symbol() {
    for (const std::string_view two : {"==", "!=", ">=", "<=", "**", "//"})
      if (starts(two)) {
        add(TokenKind::kOperator, std::string(two), at_);
        at_ += 2;
        return 0;
      }
    const char c = source_[at_];
    if (std::string_view("+-*/%~<>=.,:|()[]{}").find(c) == std::string_view::npos)
      fail_at(place(), fmt::format("unexpected character '{}'", c));
    add(TokenKind::kOperator, std::string(1, c), at_);
    ++at_;
    return c == '(' || c == '[' || c == '{' ? 1 : c == ')' || c == ']' || c == '}' ? -1 : 0;
  }

  void number() {
    const size_t begin = at_;
    std::string digits;
    bool is_float = false;
    const auto take_digits = [&] {
      while (at_ < source_.size() && (is_digit(source_[at_]) || source_[at_] == '_')) {
        if (source_[at_] != '_') digits += source_[at_];
        ++at_;
      }
    };
    const auto digit_at = [&](size_t i) { return i < source_.size() && is_digit(source_[i]); };
    take_digits();
    if (starts(".") && digit_at(at_ + 1)) {
      is_float = true;
      digits += source_[at_++];
      take_digits();
    }
    if (starts("e") || starts("E")) {
      const size_t sign =
          at_ + 1 < source_.size() && (source_[at_ + 1] == '-' || source_[at_ + 1] == '+');
      if (digit_at(at_ + 1 + sign)) {
        is_float = true;
        digits.append(source_, at_, 1 + sign);
        at_ += 1 + sign;
        take_digits();
      }
    }
    add(is_float ? TokenKind::kFloat : TokenKind::kInteger, source_.substr(begin, at_ - begin),
        begin);
    Token& token = tokens_.back();
    const char* end = digits.data() + digits.size();
    const auto result = is_float ? std::from_chars(digits.data(), end, token.real)
                                 : std::from_chars(digits.data(), end, token.integer);
    if (result.ec != std::errc() || result.ptr != end)
      fail_at(token.place, "the number " + token.text + " is out of range");
  }

  // Escapes as in Python's string literals.
  void string(char quote) {
    const size_t begin = at_++;
    std::string value;
    while (true) {
      if (at_ >= source_.size()) fail_at(place_of(begin), "a string that never ends");
      const char c = source_[at_++];
      if (c == quote) break;
      if (c == '\\' && at_ < source_.size())
        escape(value);
      else
        value += c;
    }
    add(TokenKind::kString, std::move(value), begin);
  }

  void escape(std::string& value) {
    const char c = source_[at_++];
    constexpr std::string_view kLetters = "ntr\\'\"abfv", kMeanings = "\n\t\r\\'\"\a\b\f\v";
    if (const size_t i = kLetters.find(c); i != std::string_view::npos) {
      value += kMeanings[i];
    } else if (c == '\n') {
      return;
    } else if (c >= '0' && c <= '7') {
      char32_t code = static_cast<char32_t>(c - '0');
      for (int i = 0; i < 2 && at_ < source_.size() && source_[at_] >= '0' && source_[at_] <= '7';
           ++i)
        code = code * 8 + static_cast<char32_t>(source_[at_++] - '0');
      append_utf8(code, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      char32_t code = 0;
      for (int n = c == 'x' ? 2 : c == 'u' ? 4 : 8; n > 0; --n, ++at_) {
        const int digit = at_ < source_.size() ? hex_value(source_[at_]) : -1;
        if (digit < 0) fail_at(place(), "a short escape in a string");
        code = code << 4 | static_cast<char32_t>(digit);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        fail_at(place(), "an escape that is no character");
      append_utf8(code, value);
    } else {
      value += '\\';
      value += c;
    }
  }

  std::string source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  size_t counted_ = 0;
  Place place_;
  std::vector<Token> tokens_;
};

}  // namespace

void fail_at(Place place, const std::string& message) {
  fail(ErrorCode::kBadData, "chat template: line {}, column {}: {}", place.line, place.column,
       message);
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace lapidary::jinja
