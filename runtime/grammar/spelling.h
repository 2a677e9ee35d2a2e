// From code points to bytes: an automaton over characters becomes part of a network.
#pragma once

#include "runtime/grammar/network.h"
#include "runtime/grammar/regex.h"

namespace lapidary::grammar {

enum class Spelling {
  kText,       // UTF-8
  kJsonString  // what stands between the quotes: UTF-8, and escapes for what JSON must escape
};

// Texts of `automaton`, spelled. In JSON every character has one spelling here, and control
// characters without a short escape have none, which keeps the network small.
Fragment spell(const CodeAutomaton& automaton, Spelling spelling, NetworkBuilder& builder);

const CodeSet& escaped_in_json();

// An edge for every spelling of the characters of `set`.
class Speller {
 public:
  Speller(Spelling spelling, NetworkBuilder& builder) : spelling_(spelling), builder_(builder) {}
  void edge(NodeId from, const CodeSet& set, NodeId to);

 private:
  NodeId tail(const ByteRanges& bytes, size_t at, NodeId to);

  Spelling spelling_;
  NetworkBuilder& builder_;
  struct Tail {
    ByteRanges bytes;
    NodeId node;
  };
  NodeId tails_to_ = kReturnNode;  // where the remembered tails lead
  std::vector<Tail> tails_;
  CodeSet last_set_;  // and its spelling: counts repeat one set
  std::vector<ByteRanges> last_ranges_;
};

}  // namespace lapidary::grammar
