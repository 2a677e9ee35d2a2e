// A small vocabulary for the tests of grammars, and whether a constraint takes a text.
//
// All bytes by fallback, then pieces that cross the borders of JSON's parts, which is what a mask
// must get right.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>

#include "runtime/grammar/constraint.h"
#include "runtime/grammar/vocabulary.h"

namespace lapidary {

inline constexpr int32_t kStop = 0;

// tokenizer.json of a BPE with byte fallback; token 0 is "</s>", 1 "<|mark|>", 2 "<|end|>".
inline std::string small_tokenizer_json() {
  std::string vocab = R"("</s>":0,"<|mark|>":1,"<|end|>":2)";
  int id = 3;
  const auto add = [&](std::string_view piece) { vocab += fmt::format(",\"{}\":{}", piece, id++); };
  for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte));
  for (const char* piece :
       {"a",          "b",          "ab",      "name",    "age",   "e",        "0",
        "1",          "12",         "-",       ".",       "é",     "漢",       "漢字",
        "😀",          "▁",          "▁▁",      "▁the",    "{",     "}",        "[",
        "]",          ":",          ",",       "\\\"",    "{\\\"", "\\\":",    "\\\",\\\"",
        "\\\":▁\\\"", "\\\"}",      "},",      "]}",      "[[",    "]]",       "}}",
        "true",       "false",      "null",    "\\\\",    "\\\\n", "\\\\\\\"", "\\\\u",
        "},▁{\\\"",   "\\\",▁\\\"", "1,",      "1]",      ",▁",    "e1",       "0.",
        ".5",         "\\n",        "\\n▁▁",   "x\\\":▁", "é\\\"", "ab\\\"}",  "\\\"a\\\":1",
        "-1",         "00",         "\\\"\\\""})
    add(piece);
  return fmt::format(R"({{"model": {{"type": "BPE", "byte_fallback": true, "vocab": {{{}}},
 "merges": []}},
 "added_tokens": [{{"id": 0, "content": "</s>", "special": true}},
                  {{"id": 1, "content": "<|mark|>", "special": true}},
                  {{"id": 2, "content": "<|end|>", "special": true}}],
 "normalizer": {{"type": "Replace", "pattern": {{"String": " "}}, "content": "▁"}},
 "decoder": {{"type": "Sequence", "decoders": [
   {{"type": "Replace", "pattern": {{"String": "▁"}}, "content": " "}},
   {{"type": "ByteFallback"}}, {{"type": "Fuse"}}]}}}})",
                     vocab);
}

inline const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::from_json(small_tokenizer_json(), 512);
  return tokenizer;
}
inline std::shared_ptr<const grammar::Vocabulary> small_vocabulary() {
  static const auto vocabulary = std::make_shared<const grammar::Vocabulary>(small_tokenizer());
  return vocabulary;
}

inline std::shared_ptr<const Constraint> compiled(const Rule& rule) {
  return Constraint::compile(rule, small_vocabulary(), {kStop});
}
inline std::shared_ptr<const Constraint> compiled_schema(std::string schema,
                                                         JsonSpace space = JsonSpace::kOne) {
  return compiled(Rule::schema(std::move(schema), {space}));
}

// Whether the whole text may be written, byte by byte and then a stop.
inline bool takes(const std::shared_ptr<const Constraint>& constraint, std::string_view text) {
  Matcher matcher(constraint);
  for (const char c : text)
    if (!matcher.accept(3 + static_cast<uint8_t>(c))) return false;
  return matcher.may_end();
}

}  // namespace lapidary
