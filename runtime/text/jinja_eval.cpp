// A tree walker. Scopes: a loop iteration, a macro call, `with`, and the bodies of block statements
// make one; `if` does not. A macro sees the scope it was defined in.
#include "runtime/text/jinja_eval.h"

#include <unordered_map>

#include "formats/error.h"
#include "runtime/text/jinja_filters.h"
#include "runtime/text/jinja_globals.h"
#include "runtime/text/jinja_operators.h"

namespace lapidary::jinja {
namespace {

// A step is one node evaluated or 16 bytes of text made. A long chat takes some 100,000.
constexpr size_t kMaxSteps = 20'000'000;
// Nodes on the C++ stack at once; macros that call themselves end here.
constexpr int kMaxDepth = 800;

struct Scope {
  std::unordered_map<std::string, Value> variables;
  std::shared_ptr<Scope> outer;
};
using ScopePtr = std::shared_ptr<Scope>;

enum class Flow { kNext, kBreak, kContinue };

class Interpreter {
 public:
  explicit Interpreter(const Value& context) : globals_(make_globals(namespaces_)) {
    scope_ = std::make_shared<Scope>();
    for (const auto& [name, value] : context.dict()->items())
      scope_->variables[to_string(name)] = value;
    scope_ = std::make_shared<Scope>(Scope{{}, scope_});
  }
  ~Interpreter() {
    for (const auto& one : namespaces_) one->attributes.clear();
  }

  std::string render(const Body& body) {
    std::string out;
    run(body, out);
    return out;
  }

 private:
  // Enters a node: counts the step and the depth.
  class Entered {
   public:
    explicit Entered(Interpreter& self) : self_(self) {
      self_.spend(1);
      if (++self_.depth_ > kMaxDepth) {
        --self_.depth_;
        fail(ErrorCode::kBadData, "recursion deeper than {} nodes", kMaxDepth);
      }
    }
    ~Entered() { --self_.depth_; }

   private:
    Interpreter& self_;
  };
  // A scope inside the current one (or inside `outer`), left at the end of the block.
  class InScope {
   public:
    explicit InScope(Interpreter& self) : InScope(self, self.scope_) {}
    InScope(Interpreter& self, ScopePtr outer) : self_(self), before_(self.scope_) {
      self_.scope_ = std::make_shared<Scope>(Scope{{}, std::move(outer)});
    }
    ~InScope() { self_.scope_ = std::move(before_); }

   private:
    Interpreter& self_;
    ScopePtr before_;
  };

  void spend(size_t steps) {
    steps_ += steps;
    if (steps_ > kMaxSteps)
      fail(ErrorCode::kBadData, "rendering takes more than {} steps", kMaxSteps);
  }
  Value charged(Value v) {
    spend(extent_of(v).bytes / 16);
    return v;
  }

  Value look_up(const std::string& name) const {
    for (const Scope* s = scope_.get(); s; s = s->outer.get())
      if (const auto found = s->variables.find(name); found != s->variables.end())
        return found->second;
    const auto found = globals_.find(name);
    return found == globals_.end() ? Value(Undefined{name}) : found->second;
  }

  // Expressions.

  Value evaluate(const Expression& e) {
    const Entered entered(*this);
    const auto child = [&](size_t i) { return evaluate(*e.children[i]); };
    switch (e.kind) {
      case ExpressionKind::kConstant:
        return e.constant;
      case ExpressionKind::kName:
        return look_up(e.name);
      case ExpressionKind::kList:
      case ExpressionKind::kTuple:
        return sequence(e);
      case ExpressionKind::kDict:
        return dictionary(e);
      case ExpressionKind::kAttribute:
        return attribute_of(child(0), e.name);
      case ExpressionKind::kSubscript:
        return item_of(child(0), child(1));
      case ExpressionKind::kSlice:
        return slice(e);
      case ExpressionKind::kCall:
        return call(e);
      case ExpressionKind::kFilter:
        return filtered(e, child(0));
      case ExpressionKind::kTest:
        return test(e);
      case ExpressionKind::kNot:
        return !is_true(child(0));
      case ExpressionKind::kNegative:
        return negative(child(0));
      case ExpressionKind::kPositive:
        return negative(negative(child(0)));
      case ExpressionKind::kAnd: {
        Value left = child(0);
        return is_true(left) ? child(1) : left;
      }
      case ExpressionKind::kOr: {
        Value left = child(0);
        return is_true(left) ? left : child(1);
      }
      case ExpressionKind::kBinary: {
        const Value left = child(0);
        return charged(binary_operation(e.name, left, child(1)));
      }
      case ExpressionKind::kCompare:
        return compared(e);
      case ExpressionKind::kConcat:
        return concatenated(e);
      case ExpressionKind::kConditional:
        if (is_true(child(0))) return child(1);
        return e.children[2] ? child(2) : Value(Undefined{"the missing else of an inline if"});
    }
    return {};
  }

  Value sequence(const Expression& e) {
    ValueList items;
    for (const auto& one : e.children) items.push_back(evaluate(*one));
    return charged(make_list(std::move(items), e.kind == ExpressionKind::kTuple));
  }

  Value dictionary(const Expression& e) {
    Dict dict;
    for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
      Value key = evaluate(*e.children[i]);
      dict.set(std::move(key), evaluate(*e.children[i + 1]));
    }
    return charged(make_dict(std::move(dict)));
  }

  Value slice(const Expression& e) {
    Value bounds[3] = {None{}, None{}, None{}};
    const Value sliced = evaluate(*e.children[0]);
    for (size_t i = 0; i < 3; ++i)
      if (e.children[i + 1]) bounds[i] = evaluate(*e.children[i + 1]);
    spend(extent_of(sliced).bytes / 16);
    return charged(slice_of(sliced, bounds[0], bounds[1], bounds[2]));
  }

  Arguments arguments(const Expression& e) {
    Arguments a;
    for (size_t i = 1; i < e.children.size(); ++i) a.positional.push_back(evaluate(*e.children[i]));
    for (const auto& [name, value] : e.named) a.named.emplace_back(name, evaluate(*value));
    if (e.rest)
      for (Value& v : elements_of(evaluate(*e.rest))) a.positional.push_back(std::move(v));
    if (e.named_rest) {
      const Value rest = evaluate(*e.named_rest);
      if (!rest.dict()) fail(ErrorCode::kBadData, "'**' before a '{}'", type_name(rest));
      for (const auto& [key, value] : rest.dict()->items())
        a.named.emplace_back(to_string(key), value);
    }
    return a;
  }

  Value call(const Expression& e, const Value* caller = nullptr) {
    const Value callee = evaluate(*e.children[0]);
    Arguments a = arguments(e);
    if (caller) a.named.emplace_back("caller", *caller);
    if (callee.undefined())
      fail(ErrorCode::kBadData, "'{}' is undefined", callee.undefined()->name);
    if (!callee.callable()) fail(ErrorCode::kBadData, "a '{}' cannot be called", type_name(callee));
    return charged(callee.callable()->call(a));
  }

  Value filtered(const Expression& e, const Value& input) {
    // Reading the input costs, too: a filter may look at all of it and return little.
    spend(extent_of(input).bytes / 16);
    return charged(apply_filter(e.name, input, arguments(e)));
  }

  Value test(const Expression& e) {
    const Value input = evaluate(*e.children[0]);
    spend(extent_of(input).bytes / 64);
    return apply_test(e.name, input, arguments(e));
  }

  Value compared(const Expression& e) {
    Value left = evaluate(*e.children[0]);
    for (size_t i = 0; i < e.operators.size(); ++i) {
      Value right = evaluate(*e.children[i + 1]);
      spend((extent_of(left).bytes + extent_of(right).bytes) / 64);
      if (!holds(e.operators[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  static bool holds(const std::string& op, const Value& a, const Value& b) {
    if (op == "==") return equal(a, b);
    if (op == "!=") return !equal(a, b);
    if (op == "in") return contains(b, a);
    if (op == "not in") return !contains(b, a);
    // Not a number has no order, whatever the comparison.
    if ((a.real() && *a.real() != *a.real()) || (b.real() && *b.real() != *b.real())) return false;
    const int order = compare(a, b);
    if (op == "<") return order < 0;
    if (op == "<=") return order <= 0;
    return op == ">" ? order > 0 : order >= 0;
  }

  Value concatenated(const Expression& e) {
    std::string out;
    for (const auto& part : e.children) {
      out += to_string(evaluate(*part));
      check_size(out.size());
    }
    return charged(Value(std::move(out)));
  }

  // Statements.

  Flow run(const Body& body, std::string& out) {
    for (const Statement& s : body) {
      Flow flow = Flow::kNext;
      try {
        flow = run(s, out);
      } catch (const Error& e) {
        // The innermost statement has put its place in front already.
        if (std::string_view(e.what()).starts_with("chat template: ")) throw;
        fail_at(s.place, e.what());
      }
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  void print(std::string_view text, std::string& out) {
    spend(text.size() / 16);
    check_size(out.size() + text.size());
    out += text;
  }

  Flow run(const Statement& s, std::string& out) {
    const Entered entered(*this);
    switch (s.kind) {
      case StatementKind::kText:
        print(s.text, out);
        break;
      case StatementKind::kPrint:
        print(to_string(evaluate(*s.value)), out);
        break;
      case StatementKind::kIf:
        for (const Branch& branch : s.branches)
          if (!branch.condition || is_true(evaluate(*branch.condition)))
            return run(branch.body, out);
        break;
      case StatementKind::kFor:
        return loop(s, out);
      case StatementKind::kSet:
        assign(*s.target, evaluate(*s.value));
        break;
      case StatementKind::kSetBlock:
        assign(*s.target, block(s));
        break;
      case StatementKind::kMacro:
        assign_name(s.text, macro(s, s.text));
        break;
      case StatementKind::kCallBlock: {
        const Value caller = macro(s, "caller");
        print(to_string(call(*s.value, &caller)), out);
        break;
      }
      case StatementKind::kFilterBlock:
        print(to_string(block(s)), out);
        break;
      case StatementKind::kWith:
        return with(s, out);
      case StatementKind::kGroup: {
        const InScope in_scope(*this);
        return run(s.body, out);
      }
      case StatementKind::kBreak:
        return Flow::kBreak;
      case StatementKind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  void assign_name(const std::string& name, Value value) {
    scope_->variables[name] = std::move(value);
  }

  void assign(const Expression& target, const Value& value) {
    if (target.kind == ExpressionKind::kName) return assign_name(target.name, value);
    if (target.kind == ExpressionKind::kAttribute) {
      const Value owner = evaluate(*target.children[0]);
      if (!owner.name_space())
        fail(ErrorCode::kBadData, "only namespaces have attributes to set, found '{}'",
             type_name(owner));
      owner.name_space()->attributes[target.name] = value;
      return;
    }
    const ValueList parts = elements_of(value);
    if (parts.size() != target.children.size())
      fail(ErrorCode::kBadData, "{} values for {} names", parts.size(), target.children.size());
    for (size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], parts[i]);
  }

  // The text of a block's body, through its filters.
  Value block(const Statement& s) {
    const InScope in_scope(*this);
    std::string text;
    run(s.body, text);
    Value value(std::move(text));
    for (const auto& filter : s.filters) value = filtered(*filter, value);
    return value;
  }

  Flow with(const Statement& s, std::string& out) {
    ValueList values;
    for (const auto& value : s.values) values.push_back(evaluate(*value));
    const InScope in_scope(*this);
    for (size_t i = 0; i < values.size(); ++i) assign(*s.targets[i], values[i]);
    return run(s.body, out);
  }

  Flow loop(const Statement& s, std::string& out) {
    auto state = std::make_shared<LoopState>();
    state->items = elements_of(evaluate(*s.value));
    spend(state->items.size());
    if (s.condition) {
      ValueList kept;
      for (Value& item : state->items) {
        const InScope in_scope(*this);
        assign(*s.target, item);
        if (is_true(evaluate(*s.condition))) kept.push_back(std::move(item));
      }
      state->items = std::move(kept);
    }
    for (; state->index < state->items.size(); ++state->index) {
      const InScope in_scope(*this);
      assign_name("loop", state);
      assign(*s.target, state->items[state->index]);
      if (run(s.body, out) == Flow::kBreak) break;
    }
    if (state->items.empty()) return run(s.otherwise, out);
    return Flow::kNext;
  }

  // Holds its scope weakly: the scope holds the macro.
  Value macro(const Statement& s, const std::string& name) {
    return Value(std::make_shared<const Callable>(
        Callable{name, [this, &s, name, home = std::weak_ptr<Scope>(scope_)](Arguments& a) {
                   return call_macro(s, name, home.lock(), a);
                 }}));
  }

  Value call_macro(const Statement& s, const std::string& name, ScopePtr home, Arguments& a) {
    if (!home) fail(ErrorCode::kBadData, "the macro '{}' is called after its scope ended", name);
    const InScope in_scope(*this, std::move(home));
    if (a.positional.size() > s.parameters.size())
      fail(ErrorCode::kBadData, "the macro '{}' takes at most {} arguments, got {}", name,
           s.parameters.size(), a.positional.size());
    for (size_t i = 0; i < a.positional.size(); ++i)
      assign_name(s.parameters[i].name, std::move(a.positional[i]));
    for (auto& [key, value] : a.named) {
      bool known = key == "caller";
      for (size_t i = 0; i < s.parameters.size(); ++i)
        known |= s.parameters[i].name == key && i >= a.positional.size();
      if (!known) fail(ErrorCode::kBadData, "the macro '{}' has no free parameter '{}'", name, key);
      assign_name(key, std::move(value));
    }
    for (const Parameter& parameter : s.parameters)
      if (!scope_->variables.contains(parameter.name))
        assign_name(parameter.name, parameter.fallback ? evaluate(*parameter.fallback)
                                                       : Value(Undefined{parameter.name}));
    std::string out;
    run(s.body, out);
    return Value(std::move(out));
  }

  NamespaceRegistry namespaces_;
  std::unordered_map<std::string, Value> globals_;
  ScopePtr scope_;
  size_t steps_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string render(const Body& body, const Value& context) {
  LAPIDARY_CHECK(context.dict() != nullptr);
  return Interpreter(context).render(body);
}

}  // namespace lapidary::jinja
