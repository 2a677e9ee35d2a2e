// The vocabulary as a trie over the bytes of its tokens, laid flat for one depth-first walk.
//
// Special tokens are not in the trie: their text is no text. A grammar names the few that it uses;
// in networks each of these is one byte that UTF-8 never contains (SpecialTokens). Tokens with such
// bytes, or without any, stand in no mask.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace lapidary::grammar {

struct TrieNode {
  uint32_t end;          // the node behind this one's subtree
  uint32_t first_token;  // in tokens(): those that end here, then those of the subtree
  uint8_t byte;
  uint8_t depth;  // from 1
};

class Vocabulary {
 public:
  // Copies what it needs. 0.2 s for 262,144 tokens, so one per model. REQUIRES: the model has as
  // many logits as tokenizer.vocab_size().
  explicit Vocabulary(const Tokenizer& tokenizer);

  int64_t size() const { return static_cast<int64_t>(first_byte_.size()) - 1; }
  size_t mask_words() const { return (first_byte_.size() - 1 + 63) / 64; }
  std::string_view bytes(int32_t id) const {  // empty for a special token
    return std::string_view(text_).substr(
        first_byte_[static_cast<size_t>(id)],
        first_byte_[static_cast<size_t>(id) + 1] - first_byte_[static_cast<size_t>(id)]);
  }
  bool is_special(int32_t id) const { return is_special_[static_cast<size_t>(id)]; }
  std::optional<int32_t> special(std::string_view text) const;
  std::span<const int32_t> specials() const { return specials_; }
  const std::bitset<256>& single_bytes() const {
    return single_bytes_;
  }  // have a token of their own

  // In order of bytes; one more node than there are, for its first_token.
  std::span<const TrieNode> nodes() const { return nodes_; }
  uint32_t n_nodes() const { return static_cast<uint32_t>(nodes_.size()) - 1; }
  std::span<const int32_t> tokens() const { return tokens_; }
  // The token of `text` with the most bytes, at its beginning; -1: none.
  int32_t longest_prefix(std::string_view text) const;
  size_t memory_bytes() const;

 private:
  void build_trie();

  std::string text_;
  std::vector<uint32_t> first_byte_;
  std::vector<bool> is_special_;
  std::vector<int32_t> specials_;
  std::unordered_map<std::string, int32_t> special_ids_;
  std::bitset<256> single_bytes_;
  std::vector<TrieNode> nodes_;
  std::vector<int32_t> tokens_;
};

// The special tokens of one grammar and the bytes that stand for them.
class SpecialTokens {
 public:
  static constexpr uint8_t kFirst = 0xF5, kAnyOther = 0xFF;
  // The byte of `id`. Throws kUsage for more than ten.
  uint8_t byte_for(int32_t id);
  uint8_t byte_of(int32_t id) const;  // kAnyOther when it has none of its own
  std::span<const int32_t> ids() const { return ids_; }

 private:
  std::vector<int32_t> ids_;
};

}  // namespace lapidary::grammar
