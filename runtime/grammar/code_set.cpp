// Range arithmetic; UTF-8 splits a range until all its continuation bytes run over whole ranges.
#include "runtime/grammar/code_set.h"

#include <algorithm>

namespace lapidary::grammar {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;

// Of `c` in UTF-8; how many.
int encode(char32_t c, uint8_t (&bytes)[4]) {
  const auto tail = [&](int shift) { return static_cast<uint8_t>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    bytes[0] = static_cast<uint8_t>(c);
    return 1;
  }
  if (c < 0x800) {
    bytes[0] = static_cast<uint8_t>(0xC0 | (c >> 6));
    bytes[1] = tail(0);
    return 2;
  }
  if (c < 0x10000) {
    bytes[0] = static_cast<uint8_t>(0xE0 | (c >> 12));
    bytes[1] = tail(6);
    bytes[2] = tail(0);
    return 3;
  }
  bytes[0] = static_cast<uint8_t>(0xF0 | (c >> 18));
  bytes[1] = tail(12);
  bytes[2] = tail(6);
  bytes[3] = tail(0);
  return 4;
}

void add_range(char32_t low, char32_t high, std::vector<ByteRanges>& out) {
  for (const char32_t last : {char32_t{0x7F}, char32_t{0x7FF}, char32_t{0xFFFF}})
    if (low <= last && last < high) {
      add_range(low, last, out);
      add_range(last + 1, high, out);
      return;
    }
  // Where bytes before the last n differ, the last n must cover 80..BF completely.
  for (int n = 1; high >= 0x80 && n < 4; ++n) {
    const char32_t rest = (char32_t{1} << (6 * n)) - 1;
    if ((low & ~rest) == (high & ~rest)) continue;
    if ((low & rest) != 0) {
      add_range(low, low | rest, out);
      add_range((low | rest) + 1, high, out);
      return;
    }
    if ((high & rest) != rest) {
      add_range(low, (high & ~rest) - 1, out);
      add_range(high & ~rest, high, out);
      return;
    }
  }
  uint8_t from[4], to[4];
  const int n = encode(low, from);
  encode(high, to);
  ByteRanges bytes;
  for (int i = 0; i < n; ++i) bytes.push_back({from[i], to[i]});
  out.push_back(std::move(bytes));
}

}  // namespace

CodeSet::CodeSet(std::vector<CodeRange> ranges) {
  std::vector<CodeRange> split;
  for (CodeRange r : ranges) {
    r.high = std::min(r.high, kLastCodePoint);
    if (r.low < kFirstSurrogate && r.low <= r.high)
      split.push_back({r.low, std::min(r.high, char32_t{kFirstSurrogate - 1})});
    if (r.high > kLastSurrogate && r.low <= r.high)
      split.push_back({std::max(r.low, char32_t{kLastSurrogate + 1}), r.high});
  }
  std::sort(split.begin(), split.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.low < b.low; });
  for (const CodeRange& r : split)
    if (!ranges_.empty() && r.low <= ranges_.back().high + 1)
      ranges_.back().high = std::max(ranges_.back().high, r.high);
    else
      ranges_.push_back(r);
}

CodeSet CodeSet::all() { return CodeSet({{0, kLastCodePoint}}); }

bool CodeSet::has(char32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [&](const CodeRange& r) { return r.low <= c && c <= r.high; });
}

CodeSet CodeSet::complement() const {
  std::vector<CodeRange> gaps;
  char32_t next = 0;
  for (const CodeRange& r : ranges_) {
    if (r.low > next) gaps.push_back({next, r.low - 1});
    next = r.high + 1;
  }
  if (next <= kLastCodePoint) gaps.push_back({next, kLastCodePoint});
  return CodeSet(std::move(gaps));
}

CodeSet CodeSet::with(const CodeSet& other) const {
  std::vector<CodeRange> both = ranges_;
  both.insert(both.end(), other.ranges_.begin(), other.ranges_.end());
  return CodeSet(std::move(both));
}

CodeSet CodeSet::without(const CodeSet& other) const {
  return complement().with(other).complement();
}

std::vector<ByteRanges> utf8_ranges(const CodeSet& set) {
  std::vector<ByteRanges> out;
  for (const CodeRange& r : set.ranges()) add_range(r.low, r.high, out);
  return out;
}

}  // namespace lapidary::grammar
