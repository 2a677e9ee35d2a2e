// Int8 products for a few tokens: the memory is the limit. Codes go from memory to registers once
// per four tokens, and a group's multiplier is applied to the group's sum. See vnni_matmul.h.
#pragma once

#include "kernels/vnni_task.h"

namespace lapidary::vnni {

// Up to here the detour over L1 costs more than it saves.
inline constexpr int64_t kFewTokens = 4;
// Bounds the bases on the stack. Wider than the rows of released models (21,504): a panel in pieces
// is no stream, and 12,288 inputs in two ran at 55 GB/s instead of 60.
inline constexpr int64_t kFewSpanK = 24576;
inline constexpr int64_t kFewBases = kFewSpanK / kGroupK;

// Upper nibbles are cheaper to have sixteen times too large than to shift down, line by line.
template <class V, Code C>
inline constexpr bool kTimes16 = V::kTimes16 && (C == Code::kW4 || C == Code::kW4x);

// sum[t][half] = the two groups of a tile times token t, eight or sixteen rows, from their bases
// on.
template <class V, Code C, int Tokens>
static inline void multiply_tile(const uint8_t* codes, int part, const int8_t* x, int64_t ldx,
                                 const int32_t* bases,
                                 typename V::Ints (&sum)[Tokens][kTileGroups]) {
  const typename V::template Tile<C, kTimes16<V, C>> tile(codes, part);
  // One token's dot products would wait for each other: it gets two sums for each group.
  constexpr int kChains = Tokens == 1 ? 2 : 1;
  typename V::Ints chain[Tokens][kTileGroups][kChains];
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int half = 0; half < kTileGroups; ++half)
#pragma GCC unroll 2
      for (int c = 0; c < kChains; ++c)
        chain[t][half][c] = V::set(c == 0 ? bases[t * kFewBases + half] : 0);
#pragma GCC unroll 8
  for (int line = 0; line < kGroupLines; ++line)
#pragma GCC unroll 2
    for (int half = 0; half < kTileGroups; ++half) {
      const auto weights = tile.index(line + half * kGroupLines);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        auto& s = chain[t][half][line % kChains];
        s = V::dot(s, weights, V::broadcast4(x + t * ldx + half * kGroupK + 4 * line));
      }
    }
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int half = 0; half < kTileGroups; ++half) {
      auto& s = sum[t][half] = chain[t][half][0];
      if constexpr (kChains == 2) s = V::add(s, chain[t][half][1]);
      if constexpr (kTimes16<V, C>)
        if (half == 1) s = V::divide16(s);
    }
}

// One panel times Tokens tokens, inputs k0 .. k0 + n_k - 1, added to y unless k0 is 0.
template <class V, Code C, int Tokens>
static void multiply_few(const Task& task, int64_t panel, int64_t token, int64_t k0, int64_t n_k,
                         const int32_t* bases) {
  using Ints = typename V::Ints;
  constexpr int kParts = kLineBytes / V::kBytes;
  constexpr bool kScalePerGroup = kScaleK<C> == kGroupK;
  const PanelParts parts = panel_parts(task.w, task.g, panel);
  const int64_t n_rows = task.w.rows - panel * kPanelRows, ldx = task.x.padded_k;
  float* out = task.y + token * task.ldy + panel * kPanelRows;
  typename V::Floats y[Tokens][kParts];
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p)
      y[t][p] = k0 == 0 ? V::set(0.0f)
                        : V::load_rows(out + t * task.ldy + p * V::kLanes, n_rows - p * V::kLanes);
  constexpr int64_t kBlockK = kScalePerGroup ? kTileK : kScaleK<C>;
  for (int64_t block = k0; block < k0 + n_k; block += kBlockK) {
    const int64_t block_end = min(block + kBlockK, k0 + n_k);
    const float* x_scales = task.x_scales(token, block / kScaleK<C>);
    Ints block_sum[Tokens][kParts] = {};
    for (int64_t k = block; k < block_end; k += kTileK) {
      const int64_t tile = k / kTileK;
      const uint8_t* codes = parts.codes + tile * kTileBytes<C>;
      // Into L2: L1 has buffers for a dozen lines under way, which the line at hand needs, too.
#pragma GCC unroll 16
      for (int64_t ahead = 0; ahead < kTileBytes<C>; ahead += kLineBytes)
        _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + ahead), _MM_HINT_T1);
#pragma GCC unroll 2
      for (int p = 0; p < kParts; ++p) {
        Ints sum[Tokens][kTileGroups];
        multiply_tile<V, C, Tokens>(codes, p, task.input(token, k), ldx, bases + (k - k0) / kGroupK,
                                    sum);
        [[maybe_unused]] Ints multipliers[kTileGroups];
        if constexpr (kTwoLevel<C>) V::template multipliers<C>(parts, tile, p, multipliers);
#pragma GCC unroll 2
        for (int half = 0; half < kTileGroups; ++half)
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t) {
            if constexpr (kScalePerGroup) {
              y[t][p] = add_block<V>(
                  y[t][p], sum[t][half],
                  V::load_scales(parts, task.w.scale_type, kTileGroups * tile + half, p),
                  x_scales[t * task.g.n_scale_blocks + half]);
            } else {
              if constexpr (kTwoLevel<C>)
                sum[t][half] = V::multiply(sum[t][half], multipliers[half]);
              block_sum[t][p] = V::add(block_sum[t][p], sum[t][half]);
            }
          }
      }
    }
    if constexpr (!kScalePerGroup)
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const auto w_scale = V::load_scales(parts, task.w.scale_type, block / kScaleK<C>, p);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t)
          y[t][p] =
              add_block<V>(y[t][p], block_sum[t][p], w_scale, x_scales[t * task.g.n_scale_blocks]);
      }
  }
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p)
      V::store_rows(out + t * task.ldy + p * V::kLanes, n_rows - p * V::kLanes, y[t][p]);
}

template <class V, Code C>
static void multiply_few_tokens(const Task& task, int64_t first_panel, int64_t n_panels,
                                int64_t token, int64_t n_tokens) {
  // All that the first products wait for at once, while the bases are made.
  const PanelParts first = panel_parts(task.w, task.g, first_panel);
  prefetch(first.codes, min(kPrefetchBytes, task.g.panel_code_bytes));
  prefetch(first.scales, task.g.panel_meta_bytes);
  int32_t bases[kFewTokens * kFewBases + kGroupsTogether];
  for (int64_t k0 = 0; k0 < task.g.padded_k; k0 += kFewSpanK) {
    const int64_t n_k = min(kFewSpanK, task.g.padded_k - k0);
    for (int64_t t = 0; t < n_tokens; ++t)
      group_bases<kTimes16<V, C>>(task.x_sums(token + t, k0), n_k, kOffset<C>,
                                  bases + t * kFewBases);
    for (int64_t panel = first_panel; panel < first_panel + n_panels; ++panel) {
      if (k0 == 0 && panel + 1 < first_panel + n_panels)
        prefetch(panel_parts(task.w, task.g, panel + 1).scales, task.g.panel_meta_bytes);
      const auto run = [&]<int Tokens>() {
        multiply_few<V, C, Tokens>(task, panel, token, k0, n_k, bases);
      };
      if (n_tokens == 4) run.template operator()<4>();
      if (n_tokens == 3) run.template operator()<3>();
      if (n_tokens == 2) run.template operator()<2>();
      if (n_tokens == 1) run.template operator()<1>();
    }
  }
}

}  // namespace lapidary::vnni
