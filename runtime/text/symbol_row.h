// The tokens of a word while BPE merges them: 4 bytes for each of the word's first symbols.
//
// A token stands in the cell of its first symbol. One that spans more cells has its length in the
// cell behind and in its last one, so both neighbours of a token are found in the cells next to it.
// A linked list would be three times as large, and a long word is bound by the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lapidary {

class SymbolRow {
 public:
  void clear() { cells_.clear(); }
  void reserve(size_t n) { cells_.reserve(n); }
  void push_back(uint32_t id) { cells_.push_back(id); }
  uint32_t size() const { return static_cast<uint32_t>(cells_.size()); }

  // False in cells that a token before has taken in.
  bool is_start(uint32_t at) const { return !(cells_[at] & kInside); }
  uint32_t id(uint32_t at) const { return cells_[at] & ~kWide; }
  // The token behind the one at `at`; size() behind the last.
  uint32_t next(uint32_t at) const {
    return cells_[at] & kWide ? at + (cells_[at + 1] & ~kInside) : at + 1;
  }
  uint32_t previous(uint32_t at) const {  // at > 0
    return cells_[at - 1] & kInside ? at - (cells_[at - 1] & ~kInside) : at - 1;
  }
  // Asks for the cell ahead of its use. `at` may be any position of the row.
  void prefetch(uint32_t at) const { __builtin_prefetch(cells_.data() + at); }
  // The token at `at` and the one behind it become `id`.
  void merge(uint32_t at, uint32_t id) {
    const uint32_t right = next(at);
    const uint32_t end = next(right);
    cells_[right] = kInside;
    cells_[at] = id | kWide;
    cells_[at + 1] = kInside | (end - at);
    cells_[end - 1] = kInside | (end - at);
  }

 private:
  // Ids stay below 2^24 (kMaxVocabSize), lengths below 2^31.
  static constexpr uint32_t kWide = 1u << 30;
  static constexpr uint32_t kInside = 1u << 31;
  std::vector<uint32_t> cells_;
};

}  // namespace lapidary
