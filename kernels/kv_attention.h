// The numbers that every file of attention on packed pages shares. The arithmetic, for one row:
//
//   score[t] = sum over blocks, ascending: float(S) * (key scale[t] * step)          in float32
//     S = sum of (254 high + low) * level where levels are 8-bit, of high * level elsewhere, exact;
//     step = q scale * kStep2 or * kStep1
//   V-only rotary dims are floats instead: see packed_rotary_scores in the reference.
//   weights p = exp(score - max), running maximum and sum as on float pages
//   out[d] = fma(float(T), weight step, out[d]),  T = sum of W[t] * level, exact
//     w[t] = p[t] * value scale[t], largest = max w, U[t] = rint(w[t] * (32640 / largest))
//     8-bit levels: W = U (15 bits), weight step = largest * kWeightStep2
//     others: W[t] = R(U[0] + ... + U[t]) - R(U[0] + ... + U[t - 1]), R(x) = (x + 64) >> 7, within
//     0..255; weight step = largest * kWeightStep1. Rounding the running sum, and not each weight,
//     keeps a page's total weight: many small weights beside one large one do not vanish.
//
// All of it but exp and the sum of p is the same in every table.
#pragma once

#include "kernels/kv_pages.h"

namespace lapidary {

inline constexpr float kStep1 = 1.0f / 128;  // of a scale's unit
inline constexpr float kStep2 = 1.0f / (254 * 128);
inline constexpr int kWeightRange = 32640;  // 255 * 128: 15 bits
inline constexpr float kWeightStep1 = 1.0f / (255 * 128);
inline constexpr float kWeightStep2 = 1.0f / (kWeightRange * 128.0f);
inline constexpr float kNoWeight = 0x1p-100f;  // pages whose largest weight is below add nothing

inline constexpr int kMaxPaddedDims = 1024 + kKvPadDims * 2;

// A V-only page whose values are floats: attend_page on its values and on keys made from them.
void attend_with_rebuilt_keys(decltype(KernelTable::attend_page) attend_page, const KvPage& page,
                              const AttentionTile& tile, const AttentionState& state) noexcept;

}  // namespace lapidary
