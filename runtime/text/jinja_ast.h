// A parsed template. One node type for expressions, one for statements; `kind` says which of the
// fields mean something.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/text/jinja_lexer.h"
#include "runtime/text/jinja_value.h"

namespace lapidary::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind {
  kConstant,     // constant
  kName,         // name
  kList,         // children
  kTuple,        // children
  kDict,         // children: key, value, key, value, ...
  kAttribute,    // children[0].name
  kSubscript,    // children[0][children[1]]
  kSlice,        // children[0][children[1] : children[2] : children[3]], those may be null
  kCall,         // children[0](the other children, named...)
  kFilter,       // children[0] | name(the other children, named...); children[0] null in a block
  kTest,         // children[0] is name(...)
  kNot,          // children[0]
  kNegative,     // children[0]
  kPositive,     // children[0]
  kAnd,          // children
  kOr,           // children
  kBinary,       // children[0] name children[1]
  kCompare,      // children[0] operators[0] children[1] operators[1] ...
  kConcat,       // children joined by ~
  kConditional,  // children[1] if children[0] else children[2], which may be null
};

struct Expression {
  ExpressionKind kind;
  Place place;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr rest, named_rest;  // *rest, **named_rest of a call
  std::vector<std::string> operators;
  int depth = 1;
};

struct Statement;
using Body = std::vector<Statement>;

enum class StatementKind {
  kText,         // text
  kPrint,        // value
  kIf,           // branches; a null condition is else
  kFor,          // target in value if condition: body; otherwise
  kSet,          // target = value
  kSetBlock,     // target = body | filters
  kMacro,        // text(parameters): body
  kCallBlock,    // value, a call, with caller(parameters): body
  kFilterBlock,  // body | filters
  kWith,         // targets = values: body
  kGroup,        // body alone
  kBreak,
  kContinue,
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // null: none
};

struct Branch {
  ExpressionPtr condition;
  Body body;
};

struct Statement {
  StatementKind kind;
  Place place;
  std::string text;
  ExpressionPtr target, value, condition;
  Body body, otherwise;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  std::vector<ExpressionPtr> filters, targets, values;
};

}  // namespace lapidary::jinja
