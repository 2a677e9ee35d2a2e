// Added tokens: texts that are one token wherever they stand, found before BPE runs.
//
// Leftmost-longest matching over a trie. Tokens flagged as normalized are matched in normalized
// text, the others in raw text, so there are two passes with two tries.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "formats/tokenizer_layout.h"

namespace lapidary {

// A part of the text: an added token, or (id == kNoToken) text between them.
struct TextPart {
  size_t begin, end;  // bytes
  uint32_t id;
};

class AddedTokens {
 public:
  explicit AddedTokens(const TokenizerView& view);

  void insert(std::string_view text, uint32_t id);
  // Parts of valid UTF-8 in order, none empty. Special tokens are text unless `parse_special`.
  std::vector<TextPart> split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    unsigned char byte;
    uint32_t id = kNoToken;
    uint32_t first_child = 0, next_sibling = 0;  // 0: none; nodes_[0] is not used
  };
  uint32_t child(uint32_t node, unsigned char byte) const;
  TextPart longest_match(std::string_view text, size_t at) const;
  bool stretch(std::string_view text, size_t previous_end, TextPart& match) const;

  const TokenizerView& view_;
  std::vector<Node> nodes_;
  std::array<uint32_t, 256> roots_{};
};

}  // namespace lapidary
