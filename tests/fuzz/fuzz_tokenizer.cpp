// Any bytes as a tokenizer.json, and any edits of good compiled tables: they open and take any
// text, or they are an Error. Decoding at once and token by token must agree.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "formats/error.h"
#include "formats/tokenizer_tables.h"
#include "runtime/text/tokenizer.h"

namespace lapidary {
namespace {

// Rows of the vocabulary that a hostile tokenizer has to fit.
constexpr int64_t kVocabSize = 64;

constexpr std::string_view kGood = R"({
  "added_tokens": [{"id": 0, "content": "<bos>", "special": true, "normalized": false},
                   {"id": 1, "content": "Hi", "normalized": true, "lstrip": true}],
  "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
  "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[0-9]+"}, "behavior": "Isolated",
                    "invert": false},
  "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
  "model": {"type": "BPE", "unk_token": "?", "byte_fallback": true,
            "vocab": {"?": 2, "t": 3, "h": 4, "e": 5, "th": 6, "the": 7, "r": 8, "re": 9,
                      "<0xC3>": 10, "<0xA9>": 11},
            "merges": ["t h", "th e", "r e"]}})";

void use(const Tokenizer& tokenizer, std::string_view own_bytes) {
  for (const std::string_view text :
       {std::string_view("Hi <bos> there,  \u00e9\n\xff 12345'll \xf0\x9f\x99\x82"),
        own_bytes.substr(0, 200)}) {
    const auto ids = tokenizer.encode(text, {.add_special = true});
    for (const int32_t id : ids)
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    const std::string whole = tokenizer.decode(ids);
    StreamDecoder stream(tokenizer, false);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    if (streamed != whole) std::abort();
  }
}

}  // namespace
}  // namespace lapidary

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    use(Tokenizer::from_json(bytes, kVocabSize), bytes);
  } catch (const Error&) {
  }
  // Up to four edits, taken from the input's end: two bytes where, one byte what.
  static const std::vector<uint8_t> good = compile_tokenizer(kGood, kVocabSize);
  std::vector<uint8_t> edited = good;
  for (size_t i = 0; i < 4 && size >= 3; ++i, size -= 3)
    edited[(data[size - 1] << 8 | data[size - 2]) % edited.size()] ^= data[size - 3];
  try {
    use(Tokenizer(std::span<const uint8_t>(edited)), bytes);
  } catch (const Error&) {
  }
  return 0;
}
