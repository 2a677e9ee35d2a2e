// The table of codes. Bits per weight follow from it: bits + multiplier_bits/32 + 16/scale_k.
#include "formats/code.h"

#include <array>

#include "formats/dtype.h"
#include "formats/error.h"

namespace lapidary {
namespace {

constexpr std::array<CodeTraits, kCodeCount> kCodes{{
    {Code::kF32, "f32", 32, 0, 0, 0, true},
    {Code::kF16, "f16", 16, 0, 0, 0, true},
    {Code::kBF16, "bf16", 16, 0, 0, 0, true},
    {Code::kW8, "w8", 8, 128, 0, 0, false},
    {Code::kW6, "w6", 6, 128, 0, 0, false},
    {Code::kW5, "w5", 5, 512, 5, 7, false},   // 16 * 7 = 112 <= 127
    {Code::kW4, "w4", 4, 512, 5, 15, false},  // 8 * 15 = 120
    {Code::kW3, "w3", 3, 512, 6, 18, false},  // 7 * 18 = 126
    {Code::kW4x, "w4x", 4, 32, 0, 0, false},
    {Code::kW8x, "w8x", 8, 32, 0, 0, false},
    {Code::kT3, "t3", 3, 512, 0, 0, false, true},
    {Code::kT4, "t4", 4, 512, 0, 0, false, true},
    {Code::kT5, "t5", 5, 512, 0, 0, false, true},
    {Code::kT6, "t6", 6, 512, 0, 0, false, true},
}};

template <int Bits>
constexpr auto linear_levels() {
  std::array<int8_t, size_t{1} << Bits> table{};
  for (size_t i = 0; i < table.size(); ++i)
    table[i] = static_cast<int8_t>(static_cast<int>(i) - (1 << (Bits - 1)));
  return table;
}
constexpr auto kLevels8 = linear_levels<8>();
constexpr auto kLevels6 = linear_levels<6>();
constexpr auto kLevels5 = linear_levels<5>();
constexpr auto kLevels4 = linear_levels<4>();
constexpr std::array<int8_t, 8> kLevels3{-7, -4, -2, -1, 1, 2, 4, 7};

}  // namespace

const CodeTraits& traits(Code code) {
  LAPIDARY_CHECK(static_cast<int>(code) < kCodeCount);
  return kCodes[static_cast<size_t>(code)];
}

std::optional<Code> parse_code(std::string_view name) {
  for (const CodeTraits& t : kCodes)
    if (t.name == name) return t.code;
  return std::nullopt;
}

std::span<const int8_t> levels(Code code) {
  switch (code) {
    case Code::kW8:
    case Code::kW8x:
      return kLevels8;
    case Code::kW6:
      return kLevels6;
    case Code::kW5:
      return kLevels5;
    case Code::kW4:
    case Code::kW4x:
      return kLevels4;
    case Code::kW3:
      return kLevels3;
    default:
      return {};
  }
}

float scale_to_float(ScaleType type, uint16_t bits) {
  return type == ScaleType::kF16 ? f16_to_float(bits) : bf16_to_float(bits);
}

uint16_t float_to_scale(ScaleType type, float value) {
  return type == ScaleType::kF16 ? float_to_f16(value) : float_to_bf16(value);
}

}  // namespace lapidary
