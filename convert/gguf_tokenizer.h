// tokenizer.json again from a GGUF file's tokens, types and merges.
#pragma once

#include <string>

#include "formats/gguf_set.h"

namespace lapidary {

// What GGUF does not keep is as in the models it came from: added tokens match their text exactly,
// and the flags of the split patterns "llama-bpe" and "qwen2" are Llama 3's and Qwen's. Empty when
// the file has no vocabulary. Throws kBadData for other kinds of tokenizer.
std::string gguf_tokenizer_json(const GgufSet& file);

}  // namespace lapidary
