// The order of merges, including what happens to outdated candidates, follows `tokenizers`'
// models/bpe/word.rs: a candidate survives as long as its place still merges to the same token.
#include "runtime/text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "formats/error.h"
#include "formats/utf8.h"

namespace lapidary {
namespace {

// GPT-2's table: printable Latin-1 stands for itself, the other 68 bytes follow from U+0100.
struct ByteLetters {
  std::array<char32_t, 256> letter;
  std::array<int, 256 + 68> byte;

  ByteLetters() {
    byte.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable =
          (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
      letter[b] = printable ? static_cast<char32_t>(b) : next++;
      byte[letter[b]] = b;
    }
  }
};

const ByteLetters& byte_letters() {
  static const ByteLetters table;
  return table;
}

// Symbols are addressed with 32-bit positions.
constexpr size_t kMaxWordBytes = 0x7FFFFFFF;

}  // namespace

char32_t byte_letter(uint8_t byte) { return byte_letters().letter[byte]; }

int letter_byte(char32_t letter) {
  return letter < byte_letters().byte.size() ? byte_letters().byte[letter] : -1;
}

Bpe::Bpe(const TokenizerView& view, bool byte_level) : view_(view), byte_level_(byte_level) {
  for (int b = 0; b < 256; ++b) {
    append_utf8(byte_letter(static_cast<uint8_t>(b)), byte_pieces_[b]);
    byte_ids_[b] = model_id(byte_pieces_[b]);
    fallback_ids_[b] = model_id(fmt::format("<0x{:02X}>", b));
  }
}

uint32_t Bpe::model_id(std::string_view piece) const {
  const uint32_t id = view_.find(piece);
  return id != kNoToken && (view_.flags(id) & kInModel) ? id : kNoToken;
}

void Bpe::add_symbols(std::string_view word, Scratch& scratch) const {
  const uint32_t model_flags = view_.header().model_flags;
  const uint32_t unknown_id = view_.header().unknown_id;
  bool unknown_pending = false;
  const auto add = [&](uint32_t id) { scratch.symbols.push_back(id); };
  const auto add_character = [&](std::string_view character, uint32_t id) {
    if (id != kNoToken) {
      if (unknown_pending) add(unknown_id);
      unknown_pending = false;
      return add(id);
    }
    const auto fallback = [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
    // The bytes go in front of an unknown that is still pending; so it is in `tokenizers`.
    if ((model_flags & kByteFallback) &&
        std::all_of(character.begin(), character.end(),
                    [&](char c) { return fallback(c) != kNoToken; })) {
      for (const char c : character) add(fallback(c));
    } else if (unknown_id != kNoToken) {
      if (unknown_pending && !(model_flags & kFuseUnknown)) add(unknown_id);
      unknown_pending = true;
    }
  };
  if (byte_level_) {
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      add_character(byte_pieces_[byte], byte_ids_[byte]);
    }
  } else {
    for (size_t at = 0; at < word.size();) {
      const size_t begin = at;
      next_code_point(word, at);
      const std::string_view character = word.substr(begin, at - begin);
      add_character(character, model_id(character));
    }
  }
  if (unknown_pending) add(unknown_id);
}

void Bpe::merge_all(Scratch& scratch) const {
  SymbolRow& symbols = scratch.symbols;
  const auto merged_ids = view_.merged_ids();
  const auto consider = [&](uint32_t left, uint32_t right) {
    const uint32_t rank = view_.find_merge(symbols.id(left), symbols.id(right));
    if (rank != kNoToken) scratch.queue.push({rank, left});
  };
  scratch.queue.reset(merged_ids.size());
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) consider(i, i + 1);

  uint32_t upcoming = 0;
  for (MergeQueue::Candidate top; scratch.queue.pop(top, upcoming);) {
    symbols.prefetch(upcoming);
    const uint32_t at = top.position;
    if (!symbols.is_start(at)) continue;
    const uint32_t right = symbols.next(at);
    if (right == symbols.size()) continue;
    const uint32_t rank = view_.find_merge(symbols.id(at), symbols.id(right));
    if (rank == kNoToken || merged_ids[rank] != merged_ids[top.rank]) continue;
    symbols.merge(at, merged_ids[rank]);
    if (at > 0) consider(symbols.previous(at), at);
    if (const uint32_t next = symbols.next(at); next < symbols.size()) consider(at, next);
  }
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() > kMaxWordBytes)
    fail(ErrorCode::kOutOfMemory, "a word of {} bytes; encode the text in parts of up to {}",
         word.size(), kMaxWordBytes);
  if (view_.header().model_flags & kIgnoreMerges) {
    std::string_view whole = word;
    if (byte_level_) {
      scratch.letters.clear();
      for (const char c : word) scratch.letters += byte_pieces_[static_cast<unsigned char>(c)];
      whole = scratch.letters;
    }
    if (const uint32_t id = model_id(whole); id != kNoToken) {
      ids.push_back(static_cast<int32_t>(id));
      return;
    }
  }
  scratch.symbols.clear();
  scratch.symbols.reserve(word.size());
  add_symbols(word, scratch);
  merge_all(scratch);
  const SymbolRow& symbols = scratch.symbols;
  size_t count = 0;
  for (uint32_t at = 0; at < symbols.size(); at = symbols.next(at)) ++count;
  // Growing step by step would touch twice the memory; doubling keeps many words cheap.
  if (ids.size() + count > ids.capacity())
    ids.reserve(std::max(ids.size() + count, 2 * ids.size()));
  for (uint32_t at = 0; at < symbols.size(); at = symbols.next(at))
    ids.push_back(static_cast<int32_t>(symbols.id(at)));
}

}  // namespace lapidary
