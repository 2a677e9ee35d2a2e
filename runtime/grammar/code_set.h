// Sets of Unicode code points as sorted ranges, and their spelling in UTF-8 byte ranges.
#pragma once

#include <cstdint>
#include <vector>

namespace lapidary::grammar {

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

struct CodeRange {
  char32_t low, high;  // inclusive
  bool operator==(const CodeRange&) const = default;
};

// Sorted, neither overlapping nor adjoining, without the surrogates (they are no characters).
class CodeSet {
 public:
  CodeSet() = default;
  explicit CodeSet(std::vector<CodeRange> ranges);
  static CodeSet all();

  const std::vector<CodeRange>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  bool has(char32_t c) const;
  CodeSet complement() const;
  CodeSet with(const CodeSet& other) const;
  CodeSet without(const CodeSet& other) const;
  bool operator==(const CodeSet&) const = default;

 private:
  std::vector<CodeRange> ranges_;
};

struct ByteRange {
  uint8_t low, high;  // inclusive
  auto operator<=>(const ByteRange&) const = default;
};
// One to four byte ranges; their product is a run of code points.
using ByteRanges = std::vector<ByteRange>;
// Together they spell exactly `set`. Source: Ken Thompson's construction as in R. Cox, "Regular
// expression matching in the wild" (2010): split where the length or a leading byte changes.
std::vector<ByteRanges> utf8_ranges(const CodeSet& set);

}  // namespace lapidary::grammar
