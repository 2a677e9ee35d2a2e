// The mutations. Inputs stay below kMaxBytes, so that repeated doubling cannot eat the memory.
#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <string_view>

namespace lapidary {
namespace {

constexpr size_t kMaxBytes = 4 << 20;

// Values around which parsers overflow, wrap or run out of table.
constexpr std::array<uint64_t, 14> kIntegers = {0,
                                                1,
                                                2,
                                                0x7f,
                                                0xff,
                                                0x7fff,
                                                0xffff,
                                                0x7fffffff,
                                                0x80000000,
                                                0xffffffff,
                                                0x100000000,
                                                std::numeric_limits<int64_t>::max(),
                                                uint64_t{1} << 63,
                                                std::numeric_limits<uint64_t>::max()};

constexpr std::array<std::string_view, 16> kNumbers = {
    "0",     "-1",    "1",     "65536",     "2147483648",          "4294967296",
    "1e999", "-0.0",  "1.5",   "0.1e-320",  "9223372036854775808", "18446744073709551616",
    "null",  "\"x\"", "[1,2]", "{\"a\":[]}"};

}  // namespace

// splitmix64 (Steele, Lea and Flood 2014): any seed is a good seed.
uint64_t Mutator::below(uint64_t bound) {
  state_ += 0x9e3779b97f4a7c15ull;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return bound ? z % bound : 0;
}

std::vector<uint8_t> Mutator::mutate(std::span<const uint8_t> input,
                                     std::span<const uint8_t> other) {
  Bytes data(input.begin(),
             input.begin() + static_cast<ptrdiff_t>(std::min(input.size(), kMaxBytes)));
  for (uint64_t n = 1 + below(6); n > 0; --n) {
    switch (below(8)) {
      case 0:
        flip_bits(data);
        break;
      case 1:
        set_bytes(data);
        break;
      case 2:
        if (below(4) == 0) truncate(data);
        break;  // most of the rest is lost: do it rarely
      case 3:
        remove_range(data);
        break;
      case 4:
        double_range(data);
        break;
      case 5:
        take_range_of(data, other);
        break;
      case 6:
        overwrite_integer(data);
        break;
      default:
        replace_number(data);
        break;
    }
  }
  return data;
}

// Short ranges are likelier than long ones, near the start likelier than far behind it: headers are
// there.
std::span<uint8_t> Mutator::any_range(Bytes& data) {
  if (data.empty()) return {};
  const size_t reach = below(2) ? data.size() : std::min<size_t>(data.size(), 512);
  const size_t begin = below(reach);
  const size_t length = 1 + below(std::min<size_t>(data.size() - begin, below(4) ? 16 : 4096));
  return std::span(data).subspan(begin, length);
}

void Mutator::flip_bits(Bytes& data) {
  for (uint64_t n = 1 + below(4); n > 0 && !data.empty(); --n)
    any_range(data)[0] ^= static_cast<uint8_t>(1u << below(8));
}

void Mutator::set_bytes(Bytes& data) {
  const uint8_t value = below(2) ? static_cast<uint8_t>(below(256)) : uint8_t{0xff};
  for (uint8_t& byte : any_range(data)) byte = value;
}

void Mutator::truncate(Bytes& data) { data.resize(below(data.size() + 1)); }

void Mutator::remove_range(Bytes& data) {
  const std::span<uint8_t> range = any_range(data);
  const auto begin = data.begin() + (range.empty() ? 0 : range.data() - data.data());
  data.erase(begin, begin + static_cast<ptrdiff_t>(range.size()));
}

void Mutator::double_range(Bytes& data) {
  const std::span<uint8_t> range = any_range(data);
  const Bytes copy(range.begin(), range.end());
  // Now and then many times: nesting, long lists.
  for (uint64_t n = below(8) ? 1 : below(300); n > 0 && data.size() < kMaxBytes; --n) {
    const auto at = data.begin() + (data.empty() ? 0 : static_cast<ptrdiff_t>(below(data.size())));
    data.insert(at, copy.begin(), copy.end());
  }
}

void Mutator::take_range_of(Bytes& data, std::span<const uint8_t> other) {
  if (other.empty() || data.size() >= kMaxBytes) return;
  const size_t from = below(other.size());
  const size_t length = 1 + below(std::min<size_t>(other.size() - from, 256));
  const auto source = other.begin() + static_cast<ptrdiff_t>(from);
  data.insert(data.begin() + static_cast<ptrdiff_t>(below(data.size() + 1)), source,
              source + static_cast<ptrdiff_t>(length));
}

void Mutator::overwrite_integer(Bytes& data) {
  const size_t width = size_t{1} << below(4);
  if (data.size() < width) return;
  const size_t reach = below(2) ? data.size() : std::min<size_t>(data.size(), 512);
  const size_t at = std::min<size_t>(below(reach), data.size() - width);
  const uint64_t value = kIntegers[below(kIntegers.size())] + below(3) - 1;
  for (size_t i = 0; i < width; ++i) data[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

// A run of digits in text becomes another number, or something that is no number.
void Mutator::replace_number(Bytes& data) {
  const auto is_digit = [](uint8_t c) { return std::isdigit(c) != 0; };
  if (data.empty()) return;
  const auto start = data.begin() + static_cast<ptrdiff_t>(below(data.size()));
  const auto begin = std::find_if(start, data.end(), is_digit);
  const auto end = std::find_if_not(begin, data.end(), is_digit);
  if (begin == end) return;
  const std::string_view number = kNumbers[below(kNumbers.size())];
  const auto at = data.erase(begin, end);
  data.insert(at, number.begin(), number.end());
}

}  // namespace lapidary
