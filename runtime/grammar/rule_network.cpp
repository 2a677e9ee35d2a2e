// Free text watches for its end or triggers with the automaton of Aho and Corasick ("Efficient
// string matching", CACM 1975), over bytes, so that a token that ends in the middle of a trigger,
// or has text behind it, is treated exactly.
#include "runtime/grammar/rule_network.h"

#include <algorithm>
#include <array>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "runtime/grammar/regex.h"
#include "runtime/grammar/schema_network.h"
#include "runtime/grammar/spelling.h"

namespace lapidary::grammar {
namespace {

constexpr size_t kMaxRuleDepth = 64;
constexpr uint8_t kImpossible[] = {0xC0, 0xC1};  // never in UTF-8, and no special token either

class RuleBuilder {
 public:
  RuleBuilder(const Vocabulary& vocabulary, SpecialTokens& specials)
      : vocabulary_(vocabulary), specials_(specials), schemas_(net_) {}

  Network build(const Rule& rule) {
    const Fragment whole = fragment(rule, 0);
    net_.mark_return(whole.end);
    // What the vocabulary cannot write byte by byte could end in the middle, so it is not offered.
    std::bitset<256> usable = vocabulary_.single_bytes();
    for (size_t i = 0; i < specials_.ids().size(); ++i) usable.set(SpecialTokens::kFirst + i);
    usable.set(SpecialTokens::kAnyOther);
    return net_.finish(whole.start, usable);
  }

 private:
  // A special token's byte, or the text itself.
  std::string bytes_of(const std::string& text) {
    const auto id = vocabulary_.special(text);
    return id ? std::string(1, static_cast<char>(specials_.byte_for(*id))) : text;
  }

  Notation notation(const SchemaOptions& options) {
    if (options.quote.empty()) return {};
    const auto id = vocabulary_.special(options.quote);
    if (!id)
      fail(ErrorCode::kUsage, "the tokenizer has no special token {}, which stands around strings",
           options.quote);
    return {specials_.byte_for(*id), options.quote};
  }

  Fragment fragment(const Rule& rule, size_t depth) {
    if (depth > kMaxRuleDepth)
      fail(ErrorCode::kUsage, "a rule nests deeper than {} levels", kMaxRuleDepth);
    switch (rule.kind) {
      case Rule::Kind::kText:
        return net_.text(bytes_of(rule.source));
      case Rule::Kind::kRegex:
        return spell(compile_regex(rule.source, Anchoring::kWhole), Spelling::kText, net_);
      case Rule::Kind::kSchema:
        return schemas_.add(rule.source, rule.schema_options, notation(rule.schema_options));
      case Rule::Kind::kSequence: {
        Fragment all = net_.empty();
        for (const Rule& part : rule.parts) all = net_.join(all, fragment(part, depth + 1));
        return all;
      }
      case Rule::Kind::kChoice: {
        std::vector<Fragment> parts;
        for (const Rule& part : rule.parts) parts.push_back(fragment(part, depth + 1));
        return net_.either(parts);
      }
      case Rule::Kind::kMany: {
        const Fragment loop = net_.empty(), part = fragment(rule.parts.at(0), depth + 1);
        net_.skip(loop.start, part.start);
        net_.skip(part.end, loop.end);
        return loop;
      }
      case Rule::Kind::kTriggered:
        return triggered(rule, depth);
    }
    fail(ErrorCode::kInternal, "unknown kind of rule");
  }

  Fragment triggered(const Rule& rule, size_t depth) {
    std::vector<std::string> triggers;
    for (const std::string& text : rule.triggers) triggers.push_back(bytes_of(text));
    for (size_t i = 0; i < triggers.size(); ++i)
      for (size_t j = 0; j < triggers.size(); ++j)
        if (i != j && triggers[i].find(triggers[j]) != std::string::npos)
          fail(ErrorCode::kUsage, "trigger \"{}\" is contained in \"{}\"",
               excerpt(rule.triggers[j]), excerpt(rule.triggers[i]));
    std::vector<Fragment> then;
    for (const Rule& part : rule.parts) then.push_back(fragment(part, depth + 1));
    const NodeId end = net_.add_node();
    const NodeId start = watch(triggers, then, rule.may_end ? std::optional(end) : std::nullopt);
    for (const Fragment& part : then) net_.skip(part.end, rule.repeats ? start : end);
    return {start, end};
  }

  // Any text up to one of `texts`, which leads to its fragment's start. `may_end`: where to go from
  // everywhere before that.
  NodeId watch(const std::vector<std::string>& texts, const std::vector<Fragment>& then,
               std::optional<NodeId> may_end) {
    constexpr size_t kNone = ~size_t{0};
    struct State {
      std::array<size_t, 256> next;
      size_t fallback = 0, match = ~size_t{0};
      NodeId node = 0;
    };
    std::vector<State> states(1);
    states[0].next.fill(kNone);
    for (size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].empty()) fail(ErrorCode::kUsage, "free text needs a text that ends it");
      size_t at = 0;
      for (const char c : texts[i]) {
        const auto byte = static_cast<uint8_t>(c);
        if (states[at].next[byte] == kNone) {
          if (states.size() > 4096) fail(ErrorCode::kUsage, "triggers of more than 4096 bytes");
          states[at].next[byte] = states.size();
          states.emplace_back().next.fill(kNone);
        }
        at = states[at].next[byte];
      }
      states[at].match = i;
    }
    // Breadth first, so that a fallback is complete before it is needed.
    std::vector<size_t> order{0};
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t at = order[i];
      for (size_t byte = 0; byte < 256; ++byte) {
        size_t& next = states[at].next[byte];
        const size_t otherwise = at == 0 ? 0 : states[states[at].fallback].next[byte];
        if (next == kNone) {
          next = otherwise;
        } else {
          states[next].fallback = otherwise;
          order.push_back(next);
        }
      }
    }
    for (State& s : states) {
      s.node = s.match == kNone ? net_.add_node() : then[s.match].start;
      if (s.match == kNone && may_end) net_.skip(s.node, *may_end);
    }
    for (const State& s : states) {
      if (s.match != kNone) continue;
      for (size_t low = 0, high; low < 256; low = high + 1) {
        for (high = low; high < 255 && s.next[high + 1] == s.next[low];) ++high;
        add_free_edge(s.node, low, high, states[s.next[low]].node);
      }
    }
    return states[0].node;
  }

  void add_free_edge(NodeId from, size_t low, size_t high, NodeId to) {
    for (const uint8_t hole : kImpossible)
      if (low <= hole && hole <= high) {
        if (low < hole) add_free_edge(from, low, hole - size_t{1}, to);
        if (hole < high) add_free_edge(from, hole + size_t{1}, high, to);
        return;
      }
    net_.edge(from, static_cast<uint8_t>(low), static_cast<uint8_t>(high), to);
  }

  const Vocabulary& vocabulary_;
  SpecialTokens& specials_;
  NetworkBuilder net_;
  SchemaNetworks schemas_;
};

}  // namespace

Network build_network(const Rule& rule, const Vocabulary& vocabulary, SpecialTokens& specials) {
  return RuleBuilder(vocabulary, specials).build(rule);
}

}  // namespace lapidary::grammar
