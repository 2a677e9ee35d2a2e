// One function per level of precedence. Trees stay shallow: their depth is counted as they grow, so
// that evaluating and destroying them cannot exhaust the stack.
#include "runtime/text/jinja_expressions.h"

#include <algorithm>

namespace lapidary::jinja {
namespace {

// Released templates stay below 20.
constexpr int kMaxNesting = 100;
constexpr int kMaxTreeDepth = 300;

}  // namespace

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.nesting_ > kMaxNesting) {
    --parser_.nesting_;
    fail_at(parser_.current().place, "nests too deep");
  }
}

bool ExpressionParser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  take();
  return true;
}

bool ExpressionParser::skip_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  take();
  return true;
}

void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail_here("'" + std::string(text) + "'");
}

std::string ExpressionParser::expect_name() {
  if (current().kind != TokenKind::kName) fail_here("a name");
  return take().text;
}

void ExpressionParser::fail_here(const std::string& expected) const {
  const Token& token = current();
  const std::string found = token.kind == TokenKind::kEnd          ? "the end"
                            : token.kind == TokenKind::kText       ? "text"
                            : token.kind == TokenKind::kPrintEnd   ? "'}}'"
                            : token.kind == TokenKind::kBlockEnd   ? "'%}'"
                            : token.kind == TokenKind::kPrintBegin ? "'{{'"
                            : token.kind == TokenKind::kBlockBegin ? "'{%'"
                                                                   : "'" + token.text + "'";
  fail_at(token.place, "expected " + expected + ", found " + found);
}

ExpressionPtr ExpressionParser::make(ExpressionKind kind, Place place) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->place = place;
  return node;
}

// Sets the depth of a node whose children are complete.
ExpressionPtr ExpressionParser::with_children(ExpressionPtr node) const {
  const auto below = [&](const ExpressionPtr& child) {
    if (child) node->depth = std::max(node->depth, child->depth + 1);
  };
  for (const auto& child : node->children) below(child);
  for (const auto& child : node->named) below(child.second);
  below(node->rest);
  below(node->named_rest);
  if (node->depth > kMaxTreeDepth) fail_at(node->place, "an expression of too many parts");
  return node;
}

template <class... Children>
ExpressionPtr ExpressionParser::join(ExpressionKind kind, Place place, std::string name,
                                     Children... children) const {
  ExpressionPtr node = make(kind, place);
  node->name = std::move(name);
  (node->children.push_back(std::move(children)), ...);
  return with_children(std::move(node));
}

ExpressionPtr ExpressionParser::expression() {
  const Nesting nesting(*this);
  ExpressionPtr value = disjunction();
  while (is_name("if")) {
    const Place place = take().place;
    ExpressionPtr condition = disjunction();
    ExpressionPtr otherwise = skip_name("else") ? expression() : nullptr;
    value = join(ExpressionKind::kConditional, place, "", std::move(condition), std::move(value),
                 std::move(otherwise));
  }
  return value;
}

ExpressionPtr ExpressionParser::disjunction() {
  ExpressionPtr left = conjunction();
  while (is_name("or")) {
    const Place place = take().place;
    left = join(ExpressionKind::kOr, place, "", std::move(left), conjunction());
  }
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  ExpressionPtr left = negation();
  while (is_name("and")) {
    const Place place = take().place;
    left = join(ExpressionKind::kAnd, place, "", std::move(left), negation());
  }
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!is_name("not")) return comparison();
  const Nesting nesting(*this);
  const Place place = take().place;
  return join(ExpressionKind::kNot, place, "", negation());
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr left = binary(0);
  ExpressionPtr node;
  while (true) {
    std::string op;
    for (const char* known : {"==", "!=", "<", "<=", ">", ">="})
      if (is_operator(known)) op = known;
    if (is_name("in")) op = "in";
    if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      take();
      op = "not in";
    }
    if (op.empty()) break;
    const Place place = take().place;
    if (!node) {
      node = make(ExpressionKind::kCompare, place);
      node->children.push_back(std::move(left));
    }
    node->operators.push_back(op);
    node->children.push_back(binary(0));
  }
  return node ? with_children(std::move(node)) : std::move(left);
}

// Level 0: + and -, over ~; level 1: products, over level 2: powers. All group to the left.
ExpressionPtr ExpressionParser::binary(int level) {
  static const std::vector<std::string> kOperators[] = {{"+", "-"}, {"*", "/", "//", "%"}, {"**"}};
  const auto operand = [&] {
    return level == 0 ? concatenation() : level == 1 ? binary(2) : unary(true);
  };
  ExpressionPtr left = operand();
  while (true) {
    const auto& operators = kOperators[level];
    const auto found = std::find_if(operators.begin(), operators.end(),
                                    [&](const auto& op) { return is_operator(op); });
    if (found == operators.end()) return left;
    const Place place = take().place;
    left = join(ExpressionKind::kBinary, place, *found, std::move(left), operand());
  }
}

ExpressionPtr ExpressionParser::concatenation() {
  ExpressionPtr first = binary(1);
  if (!is_operator("~")) return first;
  ExpressionPtr node = make(ExpressionKind::kConcat, current().place);
  node->children.push_back(std::move(first));
  while (skip_operator("~")) node->children.push_back(binary(1));
  return with_children(std::move(node));
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Nesting nesting(*this);
  const Place place = current().place;
  ExpressionPtr node;
  if (skip_operator("-"))
    node = join(ExpressionKind::kNegative, place, "", unary(false));
  else if (skip_operator("+"))
    node = join(ExpressionKind::kPositive, place, "", unary(false));
  else
    node = primary();
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = current();
  ExpressionPtr node = make(ExpressionKind::kConstant, token.place);
  switch (token.kind) {
    case TokenKind::kName: {
      const std::string name = take().text;
      if (name == "true" || name == "True")
        node->constant = true;
      else if (name == "false" || name == "False")
        node->constant = false;
      else if (name == "none" || name == "None")
        node->constant = None{};
      else {
        node->kind = ExpressionKind::kName;
        node->name = name;
      }
      return node;
    }
    case TokenKind::kString: {
      std::string text;
      while (current().kind == TokenKind::kString) text += take().text;
      node->constant = Value(std::move(text));
      return node;
    }
    case TokenKind::kInteger:
      node->constant = take().integer;
      return node;
    case TokenKind::kFloat:
      node->constant = take().real;
      return node;
    default:
      if (is_operator("(")) return parenthesized();
      if (is_operator("[")) return list();
      if (is_operator("{")) return dict();
      fail_here("an expression");
  }
}

bool ExpressionParser::ends_list() const {
  return current().kind == TokenKind::kPrintEnd || current().kind == TokenKind::kBlockEnd ||
         is_operator(")") || is_name("in") || is_operator("=");
}

ExpressionPtr ExpressionParser::expression_list(bool conditional) {
  const Place place = current().place;
  ExpressionPtr first = conditional ? expression() : disjunction();
  if (!is_operator(",")) return first;
  ExpressionPtr node = make(ExpressionKind::kTuple, place);
  node->children.push_back(std::move(first));
  while (skip_operator(",") && !ends_list())
    node->children.push_back(conditional ? expression() : disjunction());
  return with_children(std::move(node));
}

ExpressionPtr ExpressionParser::parenthesized() {
  const Place place = take().place;
  if (skip_operator(")")) return make(ExpressionKind::kTuple, place);
  ExpressionPtr node = expression_list();
  expect_operator(")");
  return node;
}

ExpressionPtr ExpressionParser::list() {
  ExpressionPtr node = make(ExpressionKind::kList, take().place);
  while (!is_operator("]")) {
    node->children.push_back(expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("]");
  return with_children(std::move(node));
}

ExpressionPtr ExpressionParser::dict() {
  ExpressionPtr node = make(ExpressionKind::kDict, take().place);
  while (!is_operator("}")) {
    node->children.push_back(expression());
    expect_operator(":");
    node->children.push_back(expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("}");
  return with_children(std::move(node));
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  while (true) {
    const Place place = current().place;
    if (skip_operator(".")) {
      if (current().kind == TokenKind::kInteger) {
        ExpressionPtr index = make(ExpressionKind::kConstant, place);
        index->constant = take().integer;
        node = join(ExpressionKind::kSubscript, place, "", std::move(node), std::move(index));
      } else {
        std::string name = expect_name();
        node = join(ExpressionKind::kAttribute, place, std::move(name), std::move(node));
      }
    } else if (is_operator("[")) {
      node = subscript(std::move(node));
    } else if (is_operator("(")) {
      ExpressionPtr call = make(ExpressionKind::kCall, place);
      call->children.push_back(std::move(node));
      arguments(*call);
      node = with_children(std::move(call));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr node) {
  const Place place = take().place;
  ExpressionPtr bounds[3];
  int colons = 0;
  while (!is_operator("]")) {
    if (skip_operator(":")) {
      if (++colons > 2) fail_here("']'");
    } else {
      if (bounds[colons]) fail_here("']'");
      bounds[colons] = expression();
    }
  }
  take();
  if (colons > 0)
    return join(ExpressionKind::kSlice, place, "", std::move(node), std::move(bounds[0]),
                std::move(bounds[1]), std::move(bounds[2]));
  if (!bounds[0]) fail_at(place, "an empty subscript");
  return join(ExpressionKind::kSubscript, place, "", std::move(node), std::move(bounds[0]));
}

void ExpressionParser::arguments(Expression& call) {
  expect_operator("(");
  while (!is_operator(")")) {
    if (skip_operator("**")) {
      if (call.named_rest) fail_here("one '**'");
      call.named_rest = expression();
    } else if (skip_operator("*")) {
      if (call.rest) fail_here("one '*'");
      call.rest = expression();
    } else if (current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
               ahead().text == "=") {
      std::string name = take().text;
      take();
      call.named.emplace_back(std::move(name), expression());
    } else {
      if (!call.named.empty() || call.rest || call.named_rest) fail_here("a named argument");
      call.children.push_back(expression());
    }
    if (!skip_operator(",")) break;
  }
  expect_operator(")");
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr node) {
  while (true) {
    if (is_operator("|")) {
      take();
      node = filter(std::move(node));
    } else if (is_name("is")) {
      node = test(std::move(node));
    } else if (is_operator("(")) {
      node = postfix(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr input) {
  ExpressionPtr node = make(ExpressionKind::kFilter, current().place);
  node->name = expect_name();
  node->children.push_back(std::move(input));
  if (is_operator("(")) arguments(*node);
  return with_children(std::move(node));
}

std::vector<ExpressionPtr> ExpressionParser::filter_chain(bool starts_with_name) {
  std::vector<ExpressionPtr> chain;
  if (starts_with_name) chain.push_back(filter(nullptr));
  while (skip_operator("|")) chain.push_back(filter(nullptr));
  return chain;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr input) {
  const Place place = take().place;
  const bool negated = skip_name("not");
  ExpressionPtr node = make(ExpressionKind::kTest, place);
  node->name = expect_name();
  node->children.push_back(std::move(input));
  const bool takes_name =
      current().kind == TokenKind::kName && !is_name("else") && !is_name("or") && !is_name("and");
  if (is_operator("(")) {
    arguments(*node);
  } else if (takes_name || current().kind == TokenKind::kString ||
             current().kind == TokenKind::kInteger || current().kind == TokenKind::kFloat ||
             is_operator("[") || is_operator("{")) {
    if (is_name("is")) fail_here("one test ('is' cannot be chained)");
    // `x is foo if y`: the word begins a condition, as no argument can be called that.
    if (!is_name("if") && !is_name("in") && !is_name("not")) {
      const Nesting nesting(*this);
      node->children.push_back(postfix(primary()));
    }
  }
  node = with_children(std::move(node));
  return negated ? join(ExpressionKind::kNot, place, "", std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::assignment_target(bool allow_attribute) {
  const Place place = current().place;
  const bool bracket = skip_operator("(");
  const auto one = [&] {
    ExpressionPtr name = make(ExpressionKind::kName, current().place);
    name->name = expect_name();
    return name;
  };
  ExpressionPtr target = one();
  if (allow_attribute && skip_operator(".")) {
    std::string attribute = expect_name();
    target = join(ExpressionKind::kAttribute, place, std::move(attribute), std::move(target));
  }
  if (is_operator(",")) {
    ExpressionPtr tuple = make(ExpressionKind::kTuple, place);
    tuple->children.push_back(std::move(target));
    while (skip_operator(",") && !ends_list()) tuple->children.push_back(one());
    target = with_children(std::move(tuple));
  }
  if (bracket) expect_operator(")");
  return target;
}

}  // namespace lapidary::jinja
