// The weight codes: what a stored weight is made of.
//
//   weight = scale * multiplier * level(index)
//
// `index` is the b-bit number on disk, `level` an integer from a fixed table, `scale` a 16-bit
// float per row and `scale_k` inputs, and `multiplier` (two-level codes only) a small signed
// integer per row and 32 inputs. |level * multiplier| <= 127 in every code, so an unpacked weight
// is an exact int8 and integer kernels need one float multiplication per scale block.
//
// Trellis codes (t3 to t6) have no table of their own: `level` depends on the index and on those of
// the next steps of a sequence of 256 weights (formats/trellis.h). For them `index` is the symbol
// of one step.
//
// Why these: experiments on a trained 8.7 M model (docs/results.md) show two-level scales worth
// their bits at 3 to 5 bits, and one fp16 per 128 inputs better at 6 and 8.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace lapidary {

// Values are stored in files: never renumber.
enum class Code : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kW8 = 3,
  kW6 = 4,
  kW5 = 5,
  kW4 = 6,
  kW3 = 7,
  kW4x = 8,  // lossless import of lattices with a float scale per 32 (QAT, Q4_0)
  kW8x = 9,  // the same at 8 bits (Q8_0)
  kT3 = 10,  // trellis codes: the least error at their size, a search to write, a product to read
  kT4 = 11,
  kT5 = 12,
  kT6 = 13,
};
inline constexpr int kCodeCount = 14;

struct CodeTraits {
  Code code;
  std::string_view name;  // as written on the command line: "w4", "bf16"
  int bits;               // of one index (or of the float)
  int scale_k;            // inputs under one 16-bit scale; 0 for floats
  int multiplier_bits;    // sign included; 0: no multipliers
  int max_multiplier;     // magnitude
  bool is_float;
  bool is_trellis = false;
};

const CodeTraits& traits(Code code);
std::optional<Code> parse_code(std::string_view name);
inline std::string_view code_name(Code code) { return traits(code).name; }

// Levels of a code, one per index, ascending: [2^bits] int8. Empty for floats and trellis codes.
//   w8, w8x: index - 128;  w6: index - 32;  w5: index - 16;  w4, w4x: index - 8;
//   w3: -7 -4 -2 -1 1 2 4 7 (non-linear: beats the uniform levels once multipliers are small).
std::span<const int8_t> levels(Code code);

// 16-bit scales are fp16, except in w4x/w8x tensors whose flag says bf16.
enum class ScaleType : uint8_t { kF16 = 0, kBF16 = 1 };
float scale_to_float(ScaleType type, uint16_t bits);
uint16_t float_to_scale(ScaleType type, float value);

inline constexpr int kGroupK = 32;  // inputs under one multiplier

}  // namespace lapidary
