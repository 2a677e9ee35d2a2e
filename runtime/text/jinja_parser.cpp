// The statement half of the parser.
#include "runtime/text/jinja_parser.h"

#include <algorithm>

#include "runtime/text/jinja_expressions.h"

namespace lapidary::jinja {
namespace {

class Parser : ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body run() {
    Body body = statements({});
    if (current().kind != TokenKind::kEnd) fail_here("the end");
    return body;
  }

 private:
  using Ends = std::vector<std::string_view>;

  // Statements up to a tag named in `ends`, whose name is then the current token.
  Body statements(const Ends& ends) {
    const Nesting nesting(*this);
    Body body;
    while (true) {
      const Token& token = current();
      switch (token.kind) {
        case TokenKind::kText:
          body.push_back(simple(StatementKind::kText));
          body.back().text = take().text;
          break;
        case TokenKind::kPrintBegin:
          body.push_back(simple(StatementKind::kPrint));
          take();
          body.back().value = expression_list();
          if (current().kind != TokenKind::kPrintEnd) fail_here("'}}'");
          take();
          break;
        case TokenKind::kBlockBegin:
          take();
          if (current().kind != TokenKind::kName) fail_here("the name of a statement");
          if (std::find(ends.begin(), ends.end(), current().text) != ends.end()) return body;
          body.push_back(statement());
          break;
        default:
          if (!ends.empty()) fail_here("'" + std::string(ends.back()) + "'");
          return body;
      }
    }
  }

  Statement simple(StatementKind kind) const {
    Statement s;
    s.kind = kind;
    s.place = current().place;
    return s;
  }
  void end_block() {
    if (current().kind != TokenKind::kBlockEnd) fail_here("'%}'");
    take();
  }
  // A body and its closing tag.
  Body body_until(std::string_view end) {
    end_block();
    Body body = statements({end});
    take();
    end_block();
    return body;
  }

  Statement statement() {
    const std::string name = current().text;
    if (name == "if") return if_statement();
    if (name == "for") return for_statement();
    if (name == "set") return set_statement();
    Statement s = simple(StatementKind::kGroup);
    take();
    if (name == "macro") {
      s.kind = StatementKind::kMacro;
      s.text = expect_name();
      s.parameters = parameters();
      s.body = body_until("endmacro");
    } else if (name == "call") {
      s.kind = StatementKind::kCallBlock;
      if (is_operator("(")) s.parameters = parameters();
      s.value = unary(false);
      if (s.value->kind != ExpressionKind::kCall) fail_at(s.place, "'call' needs a call");
      s.body = body_until("endcall");
    } else if (name == "filter") {
      s.kind = StatementKind::kFilterBlock;
      s.filters = filter_chain(true);
      s.body = body_until("endfilter");
    } else if (name == "with") {
      s.kind = StatementKind::kWith;
      while (current().kind != TokenKind::kBlockEnd) {
        if (!s.targets.empty()) expect_operator(",");
        s.targets.push_back(assignment_target(false));
        expect_operator("=");
        s.values.push_back(expression());
      }
      s.body = body_until("endwith");
    } else if (name == "generation") {
      // Marks what a model wrote, for training masks; it prints its body.
      s.body = body_until("endgeneration");
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) fail_at(s.place, "'" + name + "' outside a loop");
      s.kind = name == "break" ? StatementKind::kBreak : StatementKind::kContinue;
      end_block();
    } else {
      fail_at(s.place, "the statement '" + name + "' is unknown or not supported");
    }
    return s;
  }

  Statement if_statement() {
    Statement s = simple(StatementKind::kIf);
    do {
      const bool is_else = take().text == "else";
      Branch branch;
      if (!is_else) branch.condition = expression_list(false);
      if (!is_else && is_name("if")) fail_here("'%}'");
      end_block();
      branch.body = statements(is_else ? Ends{"endif"} : Ends{"elif", "else", "endif"});
      s.branches.push_back(std::move(branch));
    } while (!is_name("endif"));
    take();
    end_block();
    return s;
  }

  Statement for_statement() {
    Statement s = simple(StatementKind::kFor);
    take();
    s.target = assignment_target(false);
    if (!skip_name("in")) fail_here("'in'");
    s.value = expression_list(false);
    if (skip_name("if")) s.condition = expression();
    if (is_name("recursive")) fail_here("'%}' (recursive loops are not supported)");
    end_block();
    ++loops_;
    s.body = statements({"else", "endfor"});
    --loops_;
    if (take().text == "else") {
      end_block();
      s.otherwise = statements({"endfor"});
      take();
    }
    end_block();
    return s;
  }

  Statement set_statement() {
    Statement s = simple(StatementKind::kSet);
    take();
    s.target = assignment_target(true);
    if (skip_operator("=")) {
      s.value = expression_list();
      end_block();
      return s;
    }
    s.kind = StatementKind::kSetBlock;
    s.filters = filter_chain(false);
    s.body = body_until("endset");
    return s;
  }

  std::vector<Parameter> parameters() {
    std::vector<Parameter> out;
    expect_operator("(");
    while (!is_operator(")")) {
      Parameter parameter;
      parameter.name = expect_name();
      if (skip_operator("="))
        parameter.fallback = expression();
      else if (!out.empty() && out.back().fallback)
        fail_here("a default value");
      out.push_back(std::move(parameter));
      if (!skip_operator(",")) break;
    }
    expect_operator(")");
    return out;
  }

  int loops_ = 0;
};

}  // namespace

Body parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace lapidary::jinja
