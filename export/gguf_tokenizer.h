// A tokenizer.json as the keys of a GGUF file.
#pragma once

#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/model_config.h"

namespace lapidary {

// Two kinds exist in the supported families: BPE over characters with byte fallback ("gemma4" in
// llama.cpp) and byte-level BPE ("gpt2", with a named split pattern). Throws kBadData for others.
// An empty `tokenizer_json` gives "no_vocab".
std::vector<GgufPair> gguf_tokenizer(const std::string& tokenizer_json, const ModelConfig& config);

}  // namespace lapidary
