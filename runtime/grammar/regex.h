// Regular expressions as automata over code points.
//
// PCRE2 matches text that exists; a token mask needs to know what may still come, hence our own
// automaton. Supported is what is regular: classes, \d \w \s and other escapes, groups,
// alternation, * + ? {m,n} (lazy forms mean the same set of texts), ^ and $ at the ends of a
// top-level alternative. Not regular or not here: back-references, look-around, \b, \p: an Error
// that names the construct. Syntax as in ECMA-262, which JSON Schema asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "runtime/grammar/code_set.h"

namespace lapidary::grammar {

// Nodes numbered from 0. Without skips; node `start`; any node may be accepting.
struct CodeAutomaton {
  struct Edge {
    CodeSet set;
    uint32_t to;
  };
  struct Node {
    std::vector<Edge> edges;
    bool accepts = false;
    // Another node that goes on in the same way for the next kLookAhead characters: from far
    // enough, all places of a count look alike.
    std::optional<uint32_t> alike = std::nullopt;
  };
  std::vector<Node> nodes;
  uint32_t start = 0;
};

inline constexpr size_t kMaxRegexNodes = 50'000;
inline constexpr int64_t kLookAhead = 255;  // no token has more bytes, see vocabulary.cpp

enum class Anchoring {
  kWhole,  // the pattern is the whole text (^ and $ change nothing)
  kSearch  // the pattern occurs somewhere in the text, as in JSON Schema
};

// Throws kUsage naming what is not supported or malformed and where (byte offset), kOutOfMemory for
// a pattern that unfolds to more than kMaxRegexNodes nodes.
CodeAutomaton compile_regex(std::string_view pattern, Anchoring anchoring);

// Texts of `automaton` with from `least` to `most` code points (`most` < 0: no bound). Throws
// kOutOfMemory as above.
CodeAutomaton with_length(const CodeAutomaton& automaton, int64_t least, int64_t most);

}  // namespace lapidary::grammar
