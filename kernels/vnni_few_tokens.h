// Int8 products for a few tokens: the memory is the limit. Codes go from memory to registers once
// per four tokens, and a group's multiplier is applied to the group's sum. See vnni_matmul.h.
#pragma once

#include "kernels/vnni_task.h"

namespace lapidary::vnni {

// Up to here unpacking once more beats a detour over L1.
inline constexpr int64_t kFewTokens = 32;
inline constexpr int64_t kFewSpanK = 8192;  // bounds the bases on the stack

// One panel times Tokens tokens, inputs k0 .. k0 + n_k - 1, added to y unless k0 is 0.
template <class V, Code C, int Tokens>
static void multiply_few(const Task& task, int64_t panel, int64_t token, int64_t k0, int64_t n_k,
                         const int32_t (*bases)[kFewSpanK / kGroupK]) {
  using Ints = typename V::Ints;
  constexpr int kParts = kLineBytes / V::kBytes;
  const PanelParts parts = panel_parts(task.w, task.g, panel);
  const int64_t n_rows = task.w.rows - panel * kPanelRows;
  float* out = task.y + token * task.ldy + panel * kPanelRows;
  typename V::Floats y[Tokens][kParts];
  for (int t = 0; t < Tokens; ++t)
    for (int p = 0; p < kParts; ++p)
      y[t][p] = k0 == 0 ? V::set(0.0f)
                        : V::load_rows(out + t * task.ldy + p * V::kLanes, n_rows - p * V::kLanes);
  Ints block_sum[Tokens][kParts] = {};
  for (int64_t k = k0; k < k0 + n_k; k += kTileK) {
    const int64_t tile = k / kTileK, group = kTileGroups * tile;
    const uint8_t* codes = parts.codes + tile * task.g.tile_bytes;
    for (int64_t ahead = 0; ahead < task.g.tile_bytes; ahead += kLineBytes)
      _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + ahead), _MM_HINT_T0);
    const int8_t* x = task.input(token, k);
#pragma GCC unroll 2
    for (int p = 0; p < kParts; ++p) {
      Ints sum[Tokens][kTileGroups];
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
        for (int half = 0; half < kTileGroups; ++half)
          sum[t][half] = V::set(bases[t][group + half - k0 / kGroupK]);
#pragma GCC unroll 8
      for (int line = 0; line < kGroupLines; ++line)
#pragma GCC unroll 2
        for (int half = 0; half < kTileGroups; ++half) {
          const Ints weights = V::template index<C>(codes, line + half * kGroupLines, p);
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t)
            sum[t][half] =
                V::dot(sum[t][half], weights,
                       V::broadcast4(x + t * task.x.padded_k + half * kGroupK + 4 * line));
        }
#pragma GCC unroll 2
      for (int half = 0; half < kTileGroups; ++half) {
        if constexpr (kTwoLevel<C>) {
          const Ints multipliers = V::template multipliers<C>(parts, group + half, p);
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t)
            block_sum[t][p] = V::add(block_sum[t][p], V::multiply(sum[t][half], multipliers));
        } else {
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t) block_sum[t][p] = V::add(block_sum[t][p], sum[t][half]);
        }
        const int64_t end = k + (half + 1) * kGroupK;
        if (end % kScaleK<C> != 0 && end != task.g.padded_k) continue;
        const auto w_scale = V::load_scales(parts, task.w.scale_type, (end - 1) / kScaleK<C>, p);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          y[t][p] = add_block<V>(y[t][p], block_sum[t][p], w_scale, *task.x_scale(token + t, k));
          block_sum[t][p] = V::set(0);
        }
      }
    }
  }
  for (int t = 0; t < Tokens; ++t)
    for (int p = 0; p < kParts; ++p)
      V::store_rows(out + t * task.ldy + p * V::kLanes, n_rows - p * V::kLanes, y[t][p]);
}

template <class V, Code C>
static void multiply_few_tokens(const Task& task, int64_t first_panel, int64_t n_panels,
                                int64_t token, int64_t n_tokens) {
  int32_t bases[kFewTokens][kFewSpanK / kGroupK];
  for (int64_t k0 = 0; k0 < task.g.padded_k; k0 += kFewSpanK) {
    const int64_t n_k = min(kFewSpanK, task.g.padded_k - k0);
    for (int64_t t = 0; t < n_tokens; ++t)
      sum_inputs(task.input(token + t, k0), n_k, kGroupK, kOffset<C>, bases[t]);
    for (int64_t panel = first_panel; panel < first_panel + n_panels; ++panel) {
      int64_t t = 0;
      for (; t + 4 <= n_tokens; t += 4)
        multiply_few<V, C, 4>(task, panel, token + t, k0, n_k, bases + t);
      if (n_tokens - t == 3) multiply_few<V, C, 3>(task, panel, token + t, k0, n_k, bases + t);
      if (n_tokens - t == 2) multiply_few<V, C, 2>(task, panel, token + t, k0, n_k, bases + t);
      if (n_tokens - t == 1) multiply_few<V, C, 1>(task, panel, token + t, k0, n_k, bases + t);
    }
  }
}

}  // namespace lapidary::vnni
