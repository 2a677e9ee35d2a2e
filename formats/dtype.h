// Number types found in foreign files, and the 16-bit floats in portable integer arithmetic.
//
// Conversions round to nearest, ties to even, and keep infinities and NaN. The fast vector versions
// are in kernels/; these define what they must return.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace lapidary {

enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool, kU32 };

int dtype_bytes(DType type);
std::string_view dtype_name(DType type);  // as safetensors spells it: "BF16"
std::optional<DType> parse_dtype(std::string_view name);

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline uint16_t float_to_bf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>(bits >> 16);
}

float f16_to_float(uint16_t bits);
uint16_t float_to_f16(float value);

}  // namespace lapidary
