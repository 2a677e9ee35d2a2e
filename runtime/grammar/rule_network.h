// Rules to networks.
#pragma once

#include "runtime/grammar/network.h"
#include "runtime/grammar/rule.h"
#include "runtime/grammar/vocabulary.h"

namespace lapidary::grammar {

// The whole rule, with its special tokens added to `specials`. Throws kUsage for what is not
// supported or cannot be satisfied, kOutOfMemory for what is too large, naming the cause.
Network build_network(const Rule& rule, const Vocabulary& vocabulary, SpecialTokens& specials);

}  // namespace lapidary::grammar
