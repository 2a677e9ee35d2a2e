// The table of tensor types.
#include "formats/ggml_type.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "formats/error.h"

namespace lapidary {
namespace {

constexpr std::array<GgmlTraits, 15> kTypes{{{GgmlType::kF32, "F32", 1, 4},
                                             {GgmlType::kF16, "F16", 1, 2},
                                             {GgmlType::kQ4_0, "Q4_0", 32, 18},
                                             {GgmlType::kQ4_1, "Q4_1", 32, 20},
                                             {GgmlType::kQ5_0, "Q5_0", 32, 22},
                                             {GgmlType::kQ5_1, "Q5_1", 32, 24},
                                             {GgmlType::kQ8_0, "Q8_0", 32, 34},
                                             {GgmlType::kQ2_K, "Q2_K", 256, 84},
                                             {GgmlType::kQ3_K, "Q3_K", 256, 110},
                                             {GgmlType::kQ4_K, "Q4_K", 256, 144},
                                             {GgmlType::kQ5_K, "Q5_K", 256, 176},
                                             {GgmlType::kQ6_K, "Q6_K", 256, 210},
                                             {GgmlType::kIQ4_NL, "IQ4_NL", 32, 18},
                                             {GgmlType::kIQ4_XS, "IQ4_XS", 256, 136},
                                             {GgmlType::kBF16, "BF16", 1, 2}}};

}  // namespace

std::optional<GgmlTraits> ggml_traits(uint32_t number) {
  for (const GgmlTraits& t : kTypes)
    if (static_cast<uint32_t>(t.type) == number) return t;
  return std::nullopt;
}

const GgmlTraits& traits(GgmlType type) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& t) { return t.type == type; });
  LAPIDARY_CHECK(found != kTypes.end());
  return *found;
}

int64_t block_bytes(GgmlType type, int64_t n_values) {
  const GgmlTraits& t = traits(type);
  return n_values / t.block_values * t.block_bytes;
}

std::optional<GgmlType> parse_ggml_type(std::string_view name) {
  for (const GgmlTraits& t : kTypes)
    if (std::equal(name.begin(), name.end(), t.name.begin(), t.name.end(),
                   [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; }))
      return t.type;
  return std::nullopt;
}

GgmlType fitting_type(GgmlType type, int64_t k) {
  if (k % traits(type).block_values == 0) return type;
  if (k % 32 != 0) return GgmlType::kF16;
  switch (type) {
    case GgmlType::kQ3_K:
    case GgmlType::kIQ4_XS:
    case GgmlType::kQ4_K:
      return GgmlType::kIQ4_NL;
    case GgmlType::kQ5_K:
      return GgmlType::kQ5_0;
    default:
      return GgmlType::kQ8_0;
  }
}

}  // namespace lapidary
