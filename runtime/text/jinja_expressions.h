// The expression half of the parser, and the cursor over tokens that both halves share.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/jinja_ast.h"

namespace lapidary::jinja {

// Recursive descent over tokens. Precedence from loose to tight: conditional, or, and, not,
// comparison, + -, ~, * / // %, **, unary, then postfix, filters and tests.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_name(std::string_view name) const {
    return current().kind == TokenKind::kName && current().text == name;
  }
  bool is_operator(std::string_view text) const {
    return current().kind == TokenKind::kOperator && current().text == text;
  }
  bool skip_name(std::string_view name);
  bool skip_operator(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name();
  [[noreturn]] void fail_here(const std::string& expected) const;

  ExpressionPtr expression();  // with `a if b else c`
  // One expression or, with commas, a tuple.
  ExpressionPtr expression_list(bool conditional = true);
  // Names, tuples of names, or one attribute of a name (of a namespace).
  ExpressionPtr assignment_target(bool allow_attribute);
  // `| f | g(...)`, or `f | g(...)` when `first_bar` is optional; each without its input.
  std::vector<ExpressionPtr> filter_chain(bool starts_with_name);
  ExpressionPtr unary(bool with_filters);

  // Counts the nesting of the recursion; throws past the limit.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser);
    ~Nesting() { --parser_.nesting_; }

   private:
    ExpressionParser& parser_;
  };

 private:
  ExpressionPtr make(ExpressionKind kind, Place place) const;
  ExpressionPtr with_children(ExpressionPtr node) const;
  template <class... Children>
  ExpressionPtr join(ExpressionKind kind, Place place, std::string name,
                     Children... children) const;

  ExpressionPtr disjunction();
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr binary(int level);
  ExpressionPtr concatenation();
  ExpressionPtr primary();
  ExpressionPtr postfix(ExpressionPtr node);
  ExpressionPtr filters_and_tests(ExpressionPtr node);
  ExpressionPtr filter(ExpressionPtr input);
  ExpressionPtr test(ExpressionPtr input);
  ExpressionPtr subscript(ExpressionPtr node);
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr parenthesized();
  void arguments(Expression& call);
  bool ends_list() const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace lapidary::jinja
