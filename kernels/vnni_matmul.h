// y = W x with int8 activations through vpdpbusd, the dot product of four bytes: one algorithm for
// vectors of 32 and 64 bytes. A file compiled for such an instruction set includes this with its
// vector type V (see avx512_matmul_int8.cpp for what V has to offer).
//
// The instruction multiplies unsigned by signed bytes. Weights take the unsigned place, as the
// number level + offset that unpacking gives anyway. The surplus, offset * sum of x, is taken off
// by starting every integer sum at its negative, the sum's `base`. All integers are exact, so both
// ways below give the reference's bits:
//   few tokens  the memory is the limit: codes go from memory to registers once, a group's
//               multiplier is applied to the group's sum;
//   more        the multipliers are the limit: a strip of rows is unpacked to bytes in L1,
//               group multipliers included, and then serves up to kTileTokens tokens.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"
#include "kernels/panel.h"

namespace lapidary::vnni {

inline constexpr int kLineBytes = 64;
inline constexpr int kGroupLines = kGroupK / 4;
inline constexpr int kTileGroups = kTileK / kGroupK;

inline constexpr int64_t kFewTokens = 32;   // up to here unpacking once more beats a detour over L1
inline constexpr int64_t kFewSpanK = 8192;  // bounds the bases on the stack
// Tokens and inputs handled together: their int8 values stay in a 256 KiB share of L2.
inline constexpr int64_t kTileTokens = 128;
inline constexpr int64_t kSpanK = 2048;
inline constexpr int64_t kChunkK = 512;          // unpacked at once
inline constexpr int64_t kPrefetchBytes = 8192;  // as far ahead as pays on a stream of codes

template <Code C>
inline constexpr bool kTwoLevel = C == Code::kW5 || C == Code::kW4 || C == Code::kW3;
template <Code C>
inline constexpr int kScaleK = kTwoLevel<C>                       ? 512
                               : C == Code::kW8 || C == Code::kW6 ? 128
                                                                  : 32;
// What V::index adds to a level.
template <Code C>
inline constexpr int kOffset = C == Code::kW8 || C == Code::kW8x ? 128
                               : C == Code::kW6                  ? 32
                               : C == Code::kW5                  ? 16
                                                                 : 8;

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

struct Task {
  const MatrixView& w;
  PackedGeometry g;
  Int8Activations x;
  int64_t n_x_scales;
  float* y;
  int64_t ldy;
  const int8_t* input(int64_t token, int64_t k) const { return x.q + token * x.padded_k + k; }
  const float* x_scale(int64_t token, int64_t k) const {
    return x.scales + token * n_x_scales + k / kActivationBlockK;
  }
};

// bases[k / sum_k] = -offset * sum of x over sum_k inputs, for n_k inputs, a multiple of 64.
static inline void sum_inputs(const int8_t* x, int64_t n_k, int64_t sum_k, int offset,
                              int32_t* bases) {
  const __m256i ones = _mm256_set1_epi8(1), word_ones = _mm256_set1_epi16(1);
  std::memset(bases, 0, static_cast<size_t>((n_k + sum_k - 1) / sum_k) * sizeof *bases);
  for (int64_t k = 0; k < n_k; k += kTileK) {
    __m256i sums[kTileGroups];
    for (int half = 0; half < kTileGroups; ++half) {
      const auto* p = reinterpret_cast<const __m256i*>(x + k + half * kGroupK);
      sums[half] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, _mm256_loadu_si256(p)), word_ones);
    }
    __m256i pairs = _mm256_hadd_epi32(sums[0], sums[1]);
    pairs = _mm256_hadd_epi32(pairs, pairs);
    const __m128i both =
        _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    bases[k / sum_k] -= offset * _mm_extract_epi32(both, 0);
    bases[(k + kGroupK) / sum_k] -= offset * _mm_extract_epi32(both, 1);
  }
}

// y += float(sum) * (weight scale * x scale), each operation rounded.
template <class V>
static inline typename V::Floats add_block(typename V::Floats y, typename V::Ints sum,
                                           typename V::Floats w_scale, float x_scale) {
  return V::add(y, V::multiply(V::to_floats(sum), V::multiply(w_scale, V::set(x_scale))));
}

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

// The rows whose lines fill two vectors, over up to kChunkK inputs: bytes level + offset, or in
// two-level codes level * multiplier + 128.
template <class V>
struct Strip {
  static constexpr int kRows = 2 * V::kLanes;
  alignas(64) uint8_t lines[kChunkK / 4][2 * V::kBytes];
  alignas(64) float scales[kChunkK / kGroupK][kRows];
};
template <Code C>
inline constexpr int kStripOffset = kTwoLevel<C> ? 128 : kOffset<C>;

// Rows from `panel` on; rows beyond the last panel repeat it.
template <class V, Code C>
static void unpack_strip(const Task& task, int64_t panel, int64_t last_panel, int64_t k0,
                         int64_t n_k, Strip<V>& strip) {
  for (int v = 0; v < 2; ++v) {
    const PanelParts parts =
        panel_parts(task.w, task.g, min(panel + v * V::kBytes / kLineBytes, last_panel));
    const int part = v % (kLineBytes / V::kBytes);
    for (int64_t k = 0; k < n_k; k += kGroupK) {
      const int64_t group = (k0 + k) / kGroupK;
      const uint8_t* codes = parts.codes + group / kTileGroups * task.g.tile_bytes;
      _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes), _MM_HINT_T0);
      const int first_line = static_cast<int>(group % kTileGroups) * kGroupLines;
      typename V::Factors factors{};
      if constexpr (kTwoLevel<C>)
        factors = V::factors(V::template multipliers<C>(parts, group, part), kOffset<C>);
#pragma GCC unroll 8
      for (int line = 0; line < kGroupLines; ++line) {
        auto bytes = V::template index<C>(codes, first_line + line, part);
        if constexpr (kTwoLevel<C>) bytes = V::apply(bytes, factors);
        V::store(strip.lines[k / 4 + line] + v * V::kBytes, bytes);
      }
    }
    for (int64_t block = 0; block * kScaleK<C> < n_k; ++block)
      V::store(strip.scales[block] + v * V::kLanes,
               V::load_scales(parts, task.w.scale_type, k0 / kScaleK<C> + block, part));
  }
}

// y[t][rows of the strip] += the strip times Tokens tokens over n_k inputs.
template <class V, Code C, int Tokens>
static void multiply_tokens(const Strip<V>& strip, int64_t n_k, const int8_t* x, int64_t ldx,
                            const float* x_scales, int64_t n_x_scales, const int32_t* bases,
                            int64_t ld_bases, float (*y)[Strip<V>::kRows]) {
  for (int64_t block = 0; block * kScaleK<C> < n_k; ++block) {
    const int64_t k_end = min((block + 1) * kScaleK<C>, n_k);
    typename V::Ints sum[Tokens][2];
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) sum[t][0] = sum[t][1] = V::set(bases[t * ld_bases + block]);
    for (int64_t k = block * kScaleK<C>; k < k_end; k += 4) {
      const auto low = V::load(strip.lines[k / 4]);
      const auto high = V::load(strip.lines[k / 4] + V::kBytes);
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) {
        const auto four = V::broadcast4(x + t * ldx + k);
        sum[t][0] = V::dot(sum[t][0], low, four);
        sum[t][1] = V::dot(sum[t][1], high, four);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        float* out = y[t] + v * V::kLanes;
        V::store(out, add_block<V>(V::load_floats(out), sum[t][v],
                                   V::load_floats(strip.scales[block] + v * V::kLanes),
                                   x_scales[t * n_x_scales]));
      }
  }
}

template <class V, Code C>
static void multiply_strip(const Task& task, const Strip<V>& strip, int64_t k0, int64_t n_k,
                           int64_t token, int64_t n_tokens, const int32_t* bases, int64_t ld_bases,
                           float (*y)[Strip<V>::kRows]) {
  const auto run = [&]<int Tokens>(int64_t t) {
    multiply_tokens<V, C, Tokens>(strip, n_k, task.input(token + t, k0), task.x.padded_k,
                                  task.x_scale(token + t, k0), task.n_x_scales,
                                  bases + t * ld_bases, ld_bases, y + t);
  };
  int64_t t = 0;
  for (; t + V::kTokensAtOnce <= n_tokens; t += V::kTokensAtOnce)
    run.template operator()<V::kTokensAtOnce>(t);
  if (n_tokens - t >= 4) {
    run.template operator()<4>(t);
    t += 4;
  }
  if (n_tokens - t >= 2) {
    run.template operator()<2>(t);
    t += 2;
  }
  if (t < n_tokens) run.template operator()<1>(t);
}

// Moves the results of rows row .. end_row - 1 between y and the dense copy that stays in L1.
template <class V, bool kLoad>
static void copy_results(const Task& task, int64_t row, int64_t end_row, int64_t token,
                         int64_t n_tokens, float (*dense)[Strip<V>::kRows]) {
  for (int64_t t = 0; t < n_tokens; ++t)
    for (int v = 0; v < 2; ++v) {
      float* y = task.y + (token + t) * task.ldy + row + v * V::kLanes;
      const int64_t n_rows = end_row - row - v * V::kLanes;
      float* copy = dense[t] + v * V::kLanes;
      if constexpr (kLoad)
        V::store(copy, V::load_rows(y, n_rows));
      else
        V::store_rows(y, n_rows, V::load_floats(copy));
    }
}

template <class V, Code C>
static void multiply_many_tokens(const Task& task, int64_t first_panel, int64_t n_panels,
                                 int64_t token, int64_t n_tokens) {
  constexpr int64_t kSpanBlocks = kSpanK / kScaleK<C>;
  constexpr int64_t kStripPanels = Strip<V>::kRows / kPanelRows;
  int32_t bases[kTileTokens * kSpanBlocks];
  alignas(64) float y[kTileTokens][Strip<V>::kRows];
  Strip<V> strip;
  // The last strip may hang over the end of the range: those rows are not this call's to write.
  const int64_t last_panel = first_panel + n_panels - 1;
  const int64_t end_row = min(task.w.rows, (last_panel + 1) * kPanelRows);
  for (int64_t k0 = 0; k0 < task.g.padded_k; k0 += kSpanK) {
    const int64_t span_end = min(k0 + kSpanK, task.g.padded_k);
    for (int64_t t = 0; t < n_tokens; ++t)
      sum_inputs(task.input(token + t, k0), span_end - k0, kScaleK<C>, kStripOffset<C>,
                 bases + t * kSpanBlocks);
    for (int64_t panel = first_panel; panel <= last_panel; panel += kStripPanels) {
      if (k0 == 0)
        std::memset(y, 0, static_cast<size_t>(n_tokens) * sizeof y[0]);
      else
        copy_results<V, true>(task, panel * kPanelRows, end_row, token, n_tokens, y);
      for (int64_t k = k0; k < span_end; k += kChunkK) {
        const int64_t n_k = min(kChunkK, span_end - k);
        unpack_strip<V, C>(task, panel, last_panel, k, n_k, strip);
        multiply_strip<V, C>(task, strip, k, n_k, token, n_tokens, bases + (k - k0) / kScaleK<C>,
                             kSpanBlocks, y);
      }
      copy_results<V, false>(task, panel * kPanelRows, end_row, token, n_tokens, y);
    }
  }
}

template <class V, Code C>
static void multiply(const Task& task, int64_t first_panel, int64_t n_panels, int64_t n_tokens) {
  for (int64_t token = 0; token < n_tokens; token += kTileTokens) {
    const int64_t n_here = min(kTileTokens, n_tokens - token);
    if (n_here <= kFewTokens)
      multiply_few_tokens<V, C>(task, first_panel, n_panels, token, n_here);
    else
      multiply_many_tokens<V, C>(task, first_panel, n_panels, token, n_here);
  }
}

// kernels.h, matmul_int8.
template <class V>
static void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                        const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) {
  if (traits(w.code).is_float) return;  // float codes have no int8 product
  const Task task{w, packed_geometry(w.code, w.rows, w.k),
                  x, (x.padded_k + kActivationBlockK - 1) / kActivationBlockK,
                  y, ldy};
  switch (w.code) {
    case Code::kW8:
      return multiply<V, Code::kW8>(task, first_panel, n_panels, n_tokens);
    case Code::kW6:
      return multiply<V, Code::kW6>(task, first_panel, n_panels, n_tokens);
    case Code::kW5:
      return multiply<V, Code::kW5>(task, first_panel, n_panels, n_tokens);
    case Code::kW4:
      return multiply<V, Code::kW4>(task, first_panel, n_panels, n_tokens);
    case Code::kW3:
      return multiply<V, Code::kW3>(task, first_panel, n_panels, n_tokens);
    case Code::kW4x:
      return multiply<V, Code::kW4x>(task, first_panel, n_panels, n_tokens);
    case Code::kW8x:
      return multiply<V, Code::kW8x>(task, first_panel, n_panels, n_tokens);
    default:
      return;
  }
}

}  // namespace lapidary::vnni
