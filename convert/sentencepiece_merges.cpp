// All splits of all tokens, sorted once.
#include "convert/sentencepiece_merges.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

#include "formats/error.h"

namespace lapidary {
namespace {

// Bytes; SentencePiece's own limit is 16 characters, Gemma's runs of spaces have 31.
constexpr size_t kLongestPiece = 512;

struct Split {
  float score;
  int left_length, right_length;  // characters
  size_t left, right;             // tokens
};

bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

}  // namespace

std::vector<std::pair<std::string_view, std::string_view>> sentencepiece_merges(
    std::span<const std::string> tokens, std::span<const float> scores) {
  LAPIDARY_CHECK(tokens.size() == scores.size());
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i) ids.emplace(tokens[i], i);
  std::vector<Split> splits;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!std::isfinite(scores[i]))
      fail(ErrorCode::kBadData, "token {} has the score {}; a number expected", i, scores[i]);
    const std::string_view token = tokens[i];
    if (token.size() > kLongestPiece)
      fail(ErrorCode::kBadData, "token {} has {} bytes; pieces have {} at most", i, token.size(),
           kLongestPiece);
    const size_t first = splits.size();
    const auto n_characters =
        static_cast<int>(std::count_if(token.begin(), token.end(), begins_character));
    int left_length = 0;
    for (size_t at = 1; at < token.size(); ++at) {
      left_length += begins_character(token[at - 1]);
      if (!begins_character(token[at])) continue;
      const auto left = ids.find(token.substr(0, at)), right = ids.find(token.substr(at));
      if (left == ids.end() || right == ids.end()) continue;
      splits.push_back(
          {scores[i], left_length, n_characters - left_length, left->second, right->second});
    }
    std::sort(splits.begin() + static_cast<std::ptrdiff_t>(first), splits.end(),
              [](const Split& a, const Split& b) {
                return std::pair(a.left, a.right) < std::pair(b.left, b.right);
              });
  }
  std::stable_sort(splits.begin(), splits.end(), [](const Split& a, const Split& b) {
    return std::tuple(a.score, a.left_length, a.right_length) >
           std::tuple(b.score, b.left_length, b.right_length);
  });
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  merges.reserve(splits.size());
  for (const Split& split : splits) merges.emplace_back(tokens[split.left], tokens[split.right]);
  return merges;
}

}  // namespace lapidary
