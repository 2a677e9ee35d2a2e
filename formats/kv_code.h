// How one side (K or V) of a KV cache stores its values.
//
// Two sides with a code each make a cache: f32, off (bf16), or kXvY such as k8v4.
#pragma once

#include <cstdint>

namespace lapidary {

enum class KvCode : uint8_t { kF32 = 0, kBF16 = 1, kInt8 = 2, k5Bit = 3, k4Bit = 4, k3Bit = 5 };

inline constexpr int kPageTokens = 64;  // tokens of one page; pages start at multiples of it

inline bool is_packed(KvCode code) { return code >= KvCode::kInt8; }

}  // namespace lapidary
