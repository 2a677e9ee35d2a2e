// The tensor types of GGUF files: how many values one block holds and how many bytes it takes.
//
// Numbers are ggml's (enum ggml_type); types that no released model uses are left out, and a file
// with one of them is refused by name or number.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace lapidary {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

struct GgmlTraits {
  GgmlType type;
  std::string_view name;  // as llama.cpp prints it: "Q4_K"
  int64_t block_values;   // consecutive values of a row under one block
  int64_t block_bytes;
};

std::optional<GgmlTraits> ggml_traits(uint32_t number);  // nothing: not a type we know
const GgmlTraits& traits(GgmlType type);
// Bytes of so many values in whole blocks.
int64_t block_bytes(GgmlType type, int64_t n_values);
// "q4_k" or "Q4_K".
std::optional<GgmlType> parse_ggml_type(std::string_view name);

// Rows that are not whole blocks of 256 take the 32-wide type of about the same size, below that
// f16.
GgmlType fitting_type(GgmlType type, int64_t k);

}  // namespace lapidary
