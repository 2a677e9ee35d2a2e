// A grammar as a network of nodes: byte edges, skips (epsilon edges) and calls of other networks.
//
// This is Woods' transition network: a finite automaton whose edges may also say "run that network,
// then go on here", which is all that recursive JSON needs. Everything is bytes: code points are
// spelled out as UTF-8, so that a token that ends inside a character needs no special case. Bytes
// that no UTF-8 text contains (0xF5 to 0xFF) stand for special tokens, see vocabulary.h.
// Source: W. A. Woods, "Transition network grammars for natural language analysis", CACM 1970.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace lapidary::grammar {

using NodeId = uint32_t;
inline constexpr NodeId kReturnNode = 0xFFFFFFFFu;
inline constexpr uint32_t kNeverReturns = 0xFFFFFFFFu;

// Over these a schema is hostile or should be a program.
inline constexpr size_t kMaxNodes = 400'000;
inline constexpr size_t kMaxEdges = 2'000'000;

struct ByteEdge {
  uint8_t low, high;  // inclusive
  NodeId to;
};
struct Call {
  NodeId entry;
  NodeId then;  // kReturnNode: nothing is left to do here, so nothing is put on the stack
};

// A part under construction: one way in, one way out.
struct Fragment {
  NodeId start, end;
};

// Finished and trimmed: from every node a return can be reached.
struct Network {
  NodeId start = 0;
  std::vector<uint32_t> first_edge, first_skip, first_call;  // [n_nodes + 1] into the lists below
  std::vector<ByteEdge> edge_list;
  std::vector<NodeId> skip_list;
  std::vector<Call> call_list;
  std::vector<uint8_t> returns;   // the node may end its network
  std::vector<uint32_t> heights;  // deepest stack that the shallowest way to a return needs
  std::vector<NodeId> alike;      // goes on in the same way for the length of any token

  size_t n_nodes() const { return returns.size(); }
  std::span<const ByteEdge> edges(NodeId n) const {
    return std::span(edge_list).subspan(first_edge[n], first_edge[n + 1] - first_edge[n]);
  }
  std::span<const NodeId> skips(NodeId n) const {
    return std::span(skip_list).subspan(first_skip[n], first_skip[n + 1] - first_skip[n]);
  }
  std::span<const Call> calls(NodeId n) const {
    return std::span(call_list).subspan(first_call[n], first_call[n + 1] - first_call[n]);
  }
  size_t bytes() const;
};

class NetworkBuilder {
 public:
  // All adding functions throw kOutOfMemory over kMaxNodes or kMaxEdges.
  NodeId add_node();
  void edge(NodeId from, uint8_t low, uint8_t high, NodeId to);
  void skip(NodeId from, NodeId to);
  void call(NodeId from, NodeId entry, NodeId then);
  void mark_return(NodeId node) { returns_[node] = 1; }
  // Whatever the next kLookAhead bytes are, `node` takes them exactly where `other` does.
  void set_alike(NodeId node, NodeId other) { alike_[node] = other; }
  size_t n_nodes() const { return returns_.size(); }

  Fragment empty();
  Fragment text(std::string_view bytes);
  // Appends `bytes` after `from`; the node behind them.
  NodeId text_after(NodeId from, std::string_view bytes);
  // One of `texts`, sharing beginnings.
  Fragment one_of(std::span<const std::string_view> texts);
  Fragment call_of(NodeId entry);
  Fragment join(Fragment first, Fragment second);
  Fragment either(std::span<const Fragment> parts);
  Fragment optional(Fragment part);

  // Only `usable` bytes stay on edges; nodes that cannot reach a return go. Throws kBadData when
  // nothing is left: no text would satisfy the grammar.
  Network finish(NodeId start, const std::bitset<256>& usable) const;

 private:
  struct Edge {
    NodeId from;
    ByteEdge edge;
  };
  struct Skip {
    NodeId from, to;
  };
  struct CallFrom {
    NodeId from;
    Call call;
  };
  void check_edges() const;
  std::vector<Edge> restricted(const std::bitset<256>& usable) const;
  std::vector<uint32_t> find_heights(std::span<const Edge> edges) const;

  std::vector<Edge> edges_;
  std::vector<Skip> skips_;
  std::vector<CallFrom> calls_;
  std::vector<uint8_t> returns_;
  std::vector<NodeId> alike_;
};

}  // namespace lapidary::grammar
