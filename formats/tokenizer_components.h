// The small parts of tokenizer.json as a list of steps: normalizer, pre-tokenizer, decoder and
// post-processor. The vocabulary and merges are formats/tokenizer_tables' business.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer_layout.h"

namespace lapidary {

struct ComponentStep {
  StepKind kind;
  uint32_t flags = 0;
  std::string text, content;
};

struct TokenizerComponents {
  std::vector<ComponentStep> steps;  // normalizers, then pre-tokenizers, then decoders
  std::vector<uint32_t> before_ids, after_ids;
};

// `json`: an object with the keys normalizer, pre_tokenizer, decoder and post_processor of a
// tokenizer.json. Throws kBadData naming a component that is not supported or malformed.
TokenizerComponents compile_components(std::string_view json);

}  // namespace lapidary
