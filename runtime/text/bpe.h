// Byte-pair encoding of one word, exactly as `tokenizers` does it.
//
// Symbols are a linked list; a queue holds candidate merges by rank, then position. O(n log n), so
// a word may be a whole document (Gemma never splits one).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer_layout.h"
#include "runtime/text/merge_queue.h"
#include "runtime/text/symbol_row.h"

namespace lapidary {

// The letter that byte-level BPE writes for a byte (GPT-2's table), and back (-1: not in it).
char32_t byte_letter(uint8_t byte);
int letter_byte(char32_t letter);

class Bpe {
 public:
  // Borrows `view`. `byte_level`: words are raw bytes, the vocabulary holds their letters.
  Bpe(const TokenizerView& view, bool byte_level);

  // Reused between words so that encoding allocates little.
  struct Scratch {
    SymbolRow symbols;
    MergeQueue queue;
    std::string letters;
  };

  // Appends the ids of `word`.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  uint32_t model_id(std::string_view piece) const;
  void add_symbols(std::string_view word, Scratch& scratch) const;
  void merge_all(Scratch& scratch) const;

  const TokenizerView& view_;
  bool byte_level_;
  std::array<std::string, 256> byte_pieces_;  // byte_level: the letter; else empty
  std::array<uint32_t, 256> byte_ids_;        // byte_level: its id
  std::array<uint32_t, 256> fallback_ids_;    // <0x00> to <0xFF>
};

}  // namespace lapidary
