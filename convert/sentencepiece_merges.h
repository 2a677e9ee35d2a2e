// Merges of a SentencePiece vocabulary, which lists pieces with scores and no merges.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lapidary {

// Every way to put a token together from two others, best scores first; of equal scores the one
// with the longer left part, then the longer right part, then in the order of the vocabulary. That
// is how transformers turns such models into tokenizer.json, and gives Gemma 3's list to the last
// entry. Views of `tokens`. REQUIRES: as many scores. Throws kBadData for scores that are not
// numbers and for normal tokens longer than any piece may be.
std::vector<std::pair<std::string_view, std::string_view>> sentencepiece_merges(
    std::span<const std::string> tokens, std::span<const float> scores);

}  // namespace lapidary
