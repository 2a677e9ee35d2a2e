// Putting networks together, and the last look over a whole one.
//
// finish() removes what cannot end. The height of a node is the least stack depth that some way
// from it to its network's return needs; nodes without such a way have none and are dropped. The
// automaton uses heights to keep within its depth limit without ever running into a dead end.
#include "runtime/grammar/network.h"

#include <algorithm>
#include <deque>
#include <map>

#include "formats/error.h"

namespace lapidary::grammar {

size_t Network::bytes() const {
  return edge_list.size() * sizeof(ByteEdge) + skip_list.size() * sizeof(NodeId) +
         call_list.size() * sizeof(Call) + n_nodes() * (5 * sizeof(uint32_t) + 1);
}

NodeId NetworkBuilder::add_node() {
  if (returns_.size() >= kMaxNodes)
    fail(ErrorCode::kOutOfMemory,
         "the grammar needs more than {} nodes; use smaller counts, enums or patterns", kMaxNodes);
  returns_.push_back(0);
  alike_.push_back(static_cast<NodeId>(alike_.size()));
  return alike_.back();
}

void NetworkBuilder::check_edges() const {
  if (edges_.size() + skips_.size() + calls_.size() >= kMaxEdges)
    fail(ErrorCode::kOutOfMemory,
         "the grammar needs more than {} edges; use smaller counts, enums or patterns", kMaxEdges);
}

void NetworkBuilder::edge(NodeId from, uint8_t low, uint8_t high, NodeId to) {
  check_edges();
  edges_.push_back({from, {low, high, to}});
}
void NetworkBuilder::skip(NodeId from, NodeId to) {
  check_edges();
  skips_.push_back({from, to});
}
void NetworkBuilder::call(NodeId from, NodeId entry, NodeId then) {
  check_edges();
  calls_.push_back({from, {entry, then}});
}

Fragment NetworkBuilder::empty() {
  const NodeId node = add_node();
  return {node, node};
}

NodeId NetworkBuilder::text_after(NodeId from, std::string_view bytes) {
  for (const char c : bytes) {
    const NodeId next = add_node();
    edge(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
    from = next;
  }
  return from;
}

Fragment NetworkBuilder::text(std::string_view bytes) {
  const NodeId start = add_node();
  return {start, text_after(start, bytes)};
}

Fragment NetworkBuilder::one_of(std::span<const std::string_view> texts) {
  const Fragment all{add_node(), add_node()};
  std::map<std::pair<NodeId, uint8_t>, NodeId> children;
  for (const std::string_view text : texts) {
    NodeId at = all.start;
    for (const char c : text) {
      const auto [found, is_new] = children.try_emplace({at, static_cast<uint8_t>(c)}, 0);
      if (is_new) {
        found->second = add_node();
        edge(at, static_cast<uint8_t>(c), static_cast<uint8_t>(c), found->second);
      }
      at = found->second;
    }
    skip(at, all.end);
  }
  return all;
}

Fragment NetworkBuilder::call_of(NodeId entry) {
  const Fragment f{add_node(), add_node()};
  call(f.start, entry, f.end);
  return f;
}

Fragment NetworkBuilder::join(Fragment first, Fragment second) {
  skip(first.end, second.start);
  return {first.start, second.end};
}

Fragment NetworkBuilder::either(std::span<const Fragment> parts) {
  const Fragment all{add_node(), add_node()};
  for (const Fragment& part : parts) {
    skip(all.start, part.start);
    skip(part.end, all.end);
  }
  return all;
}

Fragment NetworkBuilder::optional(Fragment part) {
  const Fragment parts[] = {part, empty()};
  return either(parts);
}

std::vector<NetworkBuilder::Edge> NetworkBuilder::restricted(const std::bitset<256>& usable) const {
  std::vector<Edge> kept;
  kept.reserve(edges_.size());
  for (const Edge& e : edges_)
    for (int low = e.edge.low; low <= e.edge.high; ++low) {
      if (!usable[static_cast<size_t>(low)]) continue;
      int high = low;
      while (high < e.edge.high && usable[static_cast<size_t>(high) + 1]) ++high;
      kept.push_back({e.from, {static_cast<uint8_t>(low), static_cast<uint8_t>(high), e.edge.to}});
      low = high;
    }
  return kept;
}

// The least solution of height(n) = 0 at a return, else the minimum over edges and skips of the
// target's, and over calls of max(1 + height(entry), height(then)).
std::vector<uint32_t> NetworkBuilder::find_heights(std::span<const Edge> edges) const {
  const size_t n = n_nodes();
  struct User {
    NodeId from;
    NodeId entry = kReturnNode, then = 0;  // a call; else a plain edge
  };
  std::vector<std::vector<User>> users(n);
  for (const Edge& e : edges) users[e.edge.to].push_back({e.from});
  for (const Skip& s : skips_) users[s.to].push_back({s.from});
  for (const CallFrom& c : calls_)
    for (const NodeId needed : {c.call.entry, c.call.then})
      users[needed].push_back({c.from, c.call.entry, c.call.then});

  std::vector<uint32_t> heights(n, kNeverReturns);
  std::deque<NodeId> changed;
  for (NodeId node = 0; node < n; ++node)
    if (returns_[node]) {
      heights[node] = 0;
      changed.push_back(node);
    }
  while (!changed.empty()) {
    const NodeId node = changed.front();
    changed.pop_front();
    for (const User& user : users[node]) {
      uint32_t height = heights[node];
      if (user.entry != kReturnNode) {
        if (heights[user.entry] == kNeverReturns || heights[user.then] == kNeverReturns) continue;
        height = std::max(heights[user.entry] + 1, heights[user.then]);
      }
      if (height >= heights[user.from]) continue;
      heights[user.from] = height;
      changed.push_back(user.from);
    }
  }
  return heights;
}

namespace {

// Sorts records by node into one list with offsets.
template <class Record, class Value>
void sort_by_node(size_t n_nodes, std::span<const Record> records, std::vector<uint32_t>& first,
                  std::vector<Value>& list, const auto& keep) {
  first.assign(n_nodes + 1, 0);
  for (const Record& r : records)
    if (keep(r)) ++first[r.from + 1];
  for (size_t i = 0; i < n_nodes; ++i) first[i + 1] += first[i];
  list.resize(first[n_nodes]);
  std::vector<uint32_t> at(first.begin(), first.end() - 1);
  for (const Record& r : records)
    if (keep(r))
      list[at[r.from]++] = [&] {
        if constexpr (requires { r.edge; })
          return r.edge;
        else if constexpr (requires { r.call; })
          return r.call;
        else
          return r.to;
      }();
}

}  // namespace

Network NetworkBuilder::finish(NodeId start, const std::bitset<256>& usable) const {
  const std::vector<Edge> edges = restricted(usable);
  Network net;
  net.start = start;
  net.returns = returns_;
  net.alike = alike_;
  net.heights = find_heights(edges);
  if (net.heights[start] == kNeverReturns)
    fail(ErrorCode::kBadData, "no text satisfies the grammar");

  const auto lives = [&](NodeId n) { return net.heights[n] != kNeverReturns; };
  const size_t n = n_nodes();
  sort_by_node(n, std::span(edges), net.first_edge, net.edge_list,
               [&](const Edge& e) { return lives(e.from) && lives(e.edge.to); });
  sort_by_node(n, std::span(skips_), net.first_skip, net.skip_list,
               [&](const Skip& s) { return lives(s.from) && lives(s.to); });
  sort_by_node(n, std::span(calls_), net.first_call, net.call_list, [&](const CallFrom& c) {
    return lives(c.from) && lives(c.call.entry) && lives(c.call.then);
  });
  // A call whose caller has nothing left to do needs no place on the stack.
  const auto only_returns = [&](NodeId node) {
    return net.returns[node] && net.edges(node).empty() && net.skips(node).empty() &&
           net.calls(node).empty();
  };
  for (Call& call : net.call_list) {
    while (!net.returns[call.then] && net.edges(call.then).empty() &&
           net.calls(call.then).empty() && net.skips(call.then).size() == 1 &&
           net.skips(call.then)[0] != call.then)
      call.then = net.skips(call.then)[0];
    if (only_returns(call.then)) call.then = kReturnNode;
  }
  return net;
}

}  // namespace lapidary::grammar
