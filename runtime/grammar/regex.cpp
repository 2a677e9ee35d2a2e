// From the tree of a pattern to an automaton without skips.
//
// Every occurrence of a character class leaves one node, so the result is small and has no empty
// moves. Repeats are unfolded; the limit on nodes ends ((a{999}){999}){999} early.
// The result is that of V. M. Glushkov, "The abstract theory of automata", 1961.
#include "runtime/grammar/regex.h"

#include <algorithm>
#include <unordered_map>

#include "formats/error.h"
#include "runtime/grammar/regex_syntax.h"

namespace lapidary::grammar {
namespace {

using Kind = RegexNode::Kind;

// Thompson's parts first, with skips; then the skips are closed away.
class Builder {
 public:
  struct Part {
    uint32_t start, end;
  };

  CodeAutomaton build(const RegexNode& pattern, Anchoring anchoring) {
    const uint32_t start = add(), end = add();
    for (const RegexNode& branch : pattern.children) {
      std::vector<const RegexNode*> items;
      for (const RegexNode& item : branch.children) items.push_back(&item);
      const bool from_start = !items.empty() && items.front()->kind == Kind::kStart;
      if (from_start) items.erase(items.begin());
      const bool to_end = !items.empty() && items.back()->kind == Kind::kEnd;
      if (to_end) items.pop_back();
      uint32_t at = start;
      if (anchoring == Anchoring::kSearch && !from_start) at = anything_after(at);
      for (const RegexNode* item : items) at = join(at, part_of(*item));
      if (anchoring == Anchoring::kSearch && !to_end) at = anything_after(at);
      skip(at, end);
    }
    return without_skips(start, end);
  }

 private:
  uint32_t add() {
    if (skips_.size() >= kMaxRegexNodes)
      fail(ErrorCode::kOutOfMemory,
           "regex: the pattern unfolds to more than {} states; use smaller counts", kMaxRegexNodes);
    skips_.emplace_back();
    edges_.push_back({nullptr, 0});
    return static_cast<uint32_t>(skips_.size() - 1);
  }
  void skip(uint32_t from, uint32_t to) { skips_[from].push_back(to); }
  uint32_t join(uint32_t at, Part part) {
    skip(at, part.start);
    return part.end;
  }
  uint32_t anything_after(uint32_t at) {
    static const CodeSet all = CodeSet::all();
    const uint32_t loop = add();
    skip(at, loop);
    const uint32_t back = add();
    edges_[loop] = {&all, back};
    skip(back, loop);
    const uint32_t out = add();
    skip(loop, out);
    return out;
  }

  Part part_of(const RegexNode& node) {
    switch (node.kind) {
      case Kind::kSet: {
        const Part p{add(), add()};
        edges_[p.start] = {&node.set, p.end};
        return p;
      }
      case Kind::kSequence: {
        const uint32_t start = add();
        uint32_t at = start;
        for (const RegexNode& child : node.children) at = join(at, part_of(child));
        return {start, at};
      }
      case Kind::kAlternatives: {
        const Part p{add(), add()};
        for (const RegexNode& child : node.children) {
          const Part inside = part_of(child);
          skip(p.start, inside.start);
          skip(inside.end, p.end);
        }
        return p;
      }
      case Kind::kRepeat:
        return repeat(node);
      case Kind::kStart:
      case Kind::kEnd:
        break;
    }
    fail(ErrorCode::kUsage,
         "regex: ^ and $ are supported at the ends of the pattern and of its top-level "
         "alternatives only");
  }

  Part repeat(const RegexNode& node) {
    const uint32_t start = add(), end = add();
    uint32_t at = start;
    for (int64_t i = 0; i < node.least; ++i) at = join(at, part_of(node.children[0]));
    if (node.most < 0) {
      const uint32_t loop = add();
      skip(at, loop);
      skip(join(loop, part_of(node.children[0])), loop);
      at = loop;
    }
    for (int64_t i = node.least; i < node.most; ++i) {
      skip(at, end);
      at = join(at, part_of(node.children[0]));
    }
    skip(at, end);
    return {start, end};
  }

  // Nodes that stay: the start, and every target of an edge. Each gets the edges of what it can
  // skip to.
  CodeAutomaton without_skips(uint32_t start, uint32_t end) const {
    CodeAutomaton out;
    std::unordered_map<uint32_t, uint32_t> numbers{{start, 0}};
    std::vector<uint32_t> order{start};
    std::vector<uint32_t> seen(skips_.size(), 0xFFFFFFFFu), todo;
    size_t n_edges = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      CodeAutomaton::Node node;
      todo.assign(1, order[i]);
      seen[order[i]] = static_cast<uint32_t>(i);
      while (!todo.empty()) {
        const uint32_t at = todo.back();
        todo.pop_back();
        node.accepts |= at == end;
        if (const auto& [set, to] = edges_[at]; set) {
          const auto [found, is_new] = numbers.try_emplace(to, static_cast<uint32_t>(order.size()));
          if (is_new) order.push_back(to);
          node.edges.push_back({*set, found->second});
          if (++n_edges > 4 * kMaxRegexNodes)
            fail(ErrorCode::kOutOfMemory, "regex: the pattern is too ambiguous: over {} edges",
                 4 * kMaxRegexNodes);
        }
        for (const uint32_t next : skips_[at])
          if (seen[next] != i) {
            seen[next] = static_cast<uint32_t>(i);
            todo.push_back(next);
          }
      }
      out.nodes.push_back(std::move(node));
    }
    return out;
  }

  struct Step {
    const CodeSet* set;
    uint32_t to;
  };
  std::vector<std::vector<uint32_t>> skips_;
  std::vector<Step> edges_;  // at most one per node; a null set: none
};

}  // namespace

CodeAutomaton compile_regex(std::string_view pattern, Anchoring anchoring) {
  const RegexNode tree = parse_regex(pattern);
  return Builder().build(tree, anchoring);
}

CodeAutomaton with_length(const CodeAutomaton& automaton, int64_t least, int64_t most) {
  // The product with a counter, which stops at `least` when there is no upper bound.
  const int64_t last = most < 0 ? least : most;
  CodeAutomaton out;
  std::unordered_map<uint64_t, uint32_t> numbers;
  std::vector<std::pair<uint32_t, int64_t>> order;
  const auto number = [&](uint32_t node, int64_t count) {
    const uint64_t key = uint64_t{node} << 32 | static_cast<uint64_t>(count);
    const auto [found, is_new] = numbers.try_emplace(key, static_cast<uint32_t>(order.size()));
    if (is_new) {
      if (order.size() >= kMaxRegexNodes)
        fail(ErrorCode::kOutOfMemory,
             "a pattern with a length unfolds to more than {} states; use smaller bounds",
             kMaxRegexNodes);
      order.emplace_back(node, count);
    }
    return found->second;
  };
  number(automaton.start, 0);
  // Where neither bound is in sight: 1 below `least`, 2 above it; else 0.
  const auto region = [&](int64_t count) {
    if (most >= 0 && most - count <= kLookAhead) return 0;
    return count + kLookAhead < least ? 1 : count >= least ? 2 : 0;
  };
  std::unordered_map<uint64_t, uint32_t> first_of_region;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto [node, count] = order[i];
    CodeAutomaton::Node copy;
    copy.accepts = automaton.nodes[node].accepts && count >= least;
    if (const int where = region(count); where != 0) {
      const uint64_t key = uint64_t{node} << 2 | static_cast<uint64_t>(where);
      copy.alike = first_of_region.try_emplace(key, static_cast<uint32_t>(i)).first->second;
    }
    if (most < 0 || count < most)
      for (const CodeAutomaton::Edge& edge : automaton.nodes[node].edges)
        copy.edges.push_back({edge.set, number(edge.to, std::min(count + 1, last))});
    out.nodes.push_back(std::move(copy));
  }
  return out;
}

}  // namespace lapidary::grammar
