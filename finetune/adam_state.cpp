// 255 levels between the largest value of a block and 2^-15 or 2^-31 of it.
#include "finetune/adam_state.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace lapidary {
namespace {

// Code c > 0 means 2^-(exponent) * (8 + mantissa) / 15, so that the largest code means 1.
std::array<float, 256> make_levels(int bits) {
  std::array<float, 256> levels{};
  const int n = 1 << bits;
  for (int c = 1; c < n; ++c)
    levels[static_cast<size_t>(c)] =
        std::ldexp(static_cast<float>(8 + c % 8) / 15.0f, c / 8 - (n / 8 - 1));
  return levels;
}

const std::array<float, 256>& levels_of(bool is_signed) {
  static const std::array<float, 256> narrow = make_levels(7), wide = make_levels(8);
  return is_signed ? narrow : wide;
}

uint8_t nearest(const std::array<float, 256>& levels, int n, float fraction) {
  const auto end = levels.begin() + n;
  const auto above = std::lower_bound(levels.begin(), end, fraction);
  if (above == end) return static_cast<uint8_t>(n - 1);
  if (above == levels.begin()) return 0;
  const bool lower = fraction - *(above - 1) <= *above - fraction;
  return static_cast<uint8_t>(above - levels.begin() - (lower ? 1 : 0));
}

}  // namespace

EightBitMoments::EightBitMoments(int64_t n, bool is_signed)
    : codes_(static_cast<size_t>(n)),
      largest_(static_cast<size_t>((n + kBlock - 1) / kBlock)),
      signed_(is_signed) {}

int64_t EightBitMoments::bytes() const {
  return static_cast<int64_t>(codes_.size() + largest_.size() * sizeof(float));
}

void EightBitMoments::read(int64_t block, std::span<float> values) const {
  const auto& levels = levels_of(signed_);
  const uint8_t* codes = codes_.data() + block * kBlock;
  const float largest = largest_[static_cast<size_t>(block)];
  for (size_t i = 0; i < values.size(); ++i) {
    const float size = levels[signed_ ? codes[i] & 127u : codes[i]] * largest;
    values[i] = signed_ && codes[i] > 127 ? -size : size;
  }
}

void EightBitMoments::write(int64_t block, std::span<const float> values) {
  const auto& levels = levels_of(signed_);
  uint8_t* codes = codes_.data() + block * kBlock;
  float largest = 0;
  for (const float v : values) largest = std::max(largest, std::abs(v));
  largest_[static_cast<size_t>(block)] = largest;
  for (size_t i = 0; i < values.size(); ++i) {
    const float fraction = largest > 0 ? std::abs(values[i]) / largest : 0.0f;
    codes[i] = nearest(levels, signed_ ? 128 : 256, fraction);
    // A second moment of zero would be divided by; the least level is small enough.
    if (!signed_ && fraction > 0 && codes[i] == 0) codes[i] = 1;
    if (signed_ && values[i] < 0 && codes[i] > 0) codes[i] = static_cast<uint8_t>(codes[i] | 128u);
  }
}

}  // namespace lapidary
