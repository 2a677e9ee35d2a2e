// The pre-tokenizer: normalized text into the words that BPE works on one by one.
#pragma once

#include <string>
#include <vector>

#include "formats/split_regex.h"
#include "formats/tokenizer_layout.h"

namespace lapidary {

// Words of `text` in order; they need not cover it.
struct Words {
  std::string text;
  std::vector<TextRange> ranges;
};

class PreTokenizer {
 public:
  // Takes the pre-tokenizer steps out of `view`, which must outlive this. Throws kBadData.
  explicit PreTokenizer(const TokenizerView& view);

  Words split(std::string text) const;  // valid UTF-8
  bool is_byte_level() const { return is_byte_level_; }

 private:
  struct Step {
    StepKind kind;
    SplitBehavior behavior;
    bool invert;
    std::string_view text;
    std::vector<SplitRegex> regex;  // one for kSplitRegex, else none
  };
  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace lapidary
