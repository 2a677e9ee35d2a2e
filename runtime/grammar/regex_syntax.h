// What a regular expression says, as a tree; the automaton is built from it in regex.cpp.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/grammar/code_set.h"

namespace lapidary::grammar {

struct RegexNode {
  enum class Kind { kSet, kSequence, kAlternatives, kRepeat, kStart, kEnd };
  Kind kind = Kind::kSequence;  // without children: the empty text
  CodeSet set;                  // kSet
  std::vector<RegexNode> children;
  int64_t least = 0, most = 0;  // kRepeat of children[0]; most < 0: no bound
};

RegexNode parse_regex(std::string_view pattern);

}  // namespace lapidary::grammar
