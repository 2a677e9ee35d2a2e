// Characters to bytes. Continuation bytes that lead to the same node share their nodes.
#include "runtime/grammar/spelling.h"

namespace lapidary::grammar {

// What JSON strings must escape.
const CodeSet& escaped_in_json() {
  static const CodeSet set({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
  return set;
}

NodeId Speller::tail(const ByteRanges& bytes, size_t at, NodeId to) {
  if (at == bytes.size()) return to;
  const ByteRanges rest(bytes.begin() + static_cast<ptrdiff_t>(at), bytes.end());
  for (const Tail& known : tails_)
    if (known.bytes == rest) return known.node;
  const NodeId node = builder_.add_node();
  builder_.edge(node, bytes[at].low, bytes[at].high, tail(bytes, at + 1, to));
  tails_.push_back({rest, node});
  return node;
}

void Speller::edge(NodeId from, const CodeSet& set, NodeId to) {
  if (tails_to_ != to) tails_.clear();
  tails_to_ = to;
  const bool in_json = spelling_ == Spelling::kJsonString;
  if (!(set == last_set_)) {
    last_set_ = set;
    last_ranges_ = utf8_ranges(in_json ? set.without(escaped_in_json()) : set);
  }
  for (const ByteRanges& bytes : last_ranges_)
    builder_.edge(from, bytes[0].low, bytes[0].high, tail(bytes, 1, to));
  if (!in_json) return;

  NodeId backslash = kReturnNode;
  static constexpr std::string_view kCodes = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  for (size_t i = 0; i < kCodes.size(); ++i) {
    if (!set.has(static_cast<char32_t>(kCodes[i]))) continue;
    if (backslash == kReturnNode) {
      backslash = builder_.add_node();
      builder_.edge(from, '\\', '\\', backslash);
    }
    builder_.edge(backslash, static_cast<uint8_t>(kLetters[i]), static_cast<uint8_t>(kLetters[i]),
                  to);
  }
}

Fragment spell(const CodeAutomaton& automaton, Spelling spelling, NetworkBuilder& builder) {
  Speller speller(spelling, builder);
  std::vector<NodeId> nodes;
  for (size_t i = 0; i < automaton.nodes.size(); ++i) nodes.push_back(builder.add_node());
  const NodeId end = builder.add_node();
  for (size_t i = 0; i < automaton.nodes.size(); ++i) {
    for (const CodeAutomaton::Edge& edge : automaton.nodes[i].edges)
      speller.edge(nodes[i], edge.set, nodes[edge.to]);
    if (automaton.nodes[i].accepts) builder.skip(nodes[i], end);
    if (const auto alike = automaton.nodes[i].alike) builder.set_alike(nodes[i], nodes[*alike]);
  }
  return {nodes[automaton.start], end};
}

}  // namespace lapidary::grammar
