// The tokenizer compiled to flat tables: tokenizer.json in, mappable bytes out.
//
// Supports what the Gemma, Llama 3 and Qwen families use: BPE with byte fallback, byte-level BPE,
// the normalizers (Replace, NFC, Prepend, Sequence), pre-tokenizers (Split with a regex or string,
// ByteLevel, Sequence), added tokens, and the bos/eos rules of the post-processor. Anything else is
// an Error that names it. The tables are read in place by runtime/text/tokenizer; every offset in
// them is checked when they are opened, so hostile bytes cannot make it read outside.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

// Compiles `tokenizer_json`. Throws kBadData (syntax, ids out of range, duplicates, an unsupported
// component) without saying where the JSON came from. `vocab_size` is the model's: ids must be
// below it.
std::vector<uint8_t> compile_tokenizer(std::string_view tokenizer_json, int64_t vocab_size);

}  // namespace lapidary
