// The normalizer of a tokenizer: text in, text out, before anything is split.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/split_regex.h"
#include "formats/tokenizer_layout.h"

namespace lapidary {

class Normalizer {
 public:
  // Takes the normalizer steps out of `view`, which must outlive this. Throws kBadData.
  explicit Normalizer(const TokenizerView& view);
  // `text` must be valid UTF-8.
  std::string apply(std::string_view text) const;

 private:
  struct Step {
    StepKind kind;
    uint32_t flags;
    std::string_view text, content;
    std::vector<SplitRegex> regex;  // one for kReplaceRegex, else none
  };
  std::vector<Step> steps_;
};

}  // namespace lapidary
