// Int8 products for prompts and batches: the multipliers are the limit. A strip of rows is unpacked
// to bytes in L1, group multipliers included, and then serves up to kTileTokens tokens. See
// vnni_matmul.h.
#pragma once

#include "kernels/vnni_task.h"

namespace lapidary::vnni {

// Tokens and inputs handled together: their int8 values stay in a 512 KiB share of L2.
inline constexpr int64_t kTileTokens = 256;
inline constexpr int64_t kSpanK = 2048;
inline constexpr int64_t kChunkK = 512;  // unpacked at once

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
    for (int64_t k = 0; k < n_k; k += kTileK) {
      const int64_t tile = (k0 + k) / kTileK;
      const typename V::template Tile<C> packed(parts.codes + tile * kTileBytes<C>, part);
      uint8_t* lines = strip.lines[k / 4] + v * V::kBytes;
      if constexpr (kTwoLevel<C>) {
        typename V::Ints multipliers[kTileGroups];
        V::template multipliers<C>(parts, tile, part, multipliers);
#pragma GCC unroll 2
        for (int half = 0; half < kTileGroups; ++half) {
          const auto factors = V::template factors<C>(multipliers[half]);
#pragma GCC unroll 8
          for (int line = half * kGroupLines; line < (half + 1) * kGroupLines; ++line)
            V::store(lines + line * 2 * V::kBytes, V::template scaled<C>(packed, line, factors));
        }
      } else {
#pragma GCC unroll 16
        for (int line = 0; line < kTileLines; ++line)
          V::store(lines + line * 2 * V::kBytes, packed.index(line));
      }
    }
    for (int64_t block = 0; block * kScaleK<C> < n_k; ++block)
      V::store(strip.scales[block] + v * V::kLanes,
               V::load_scales(parts, task.w.scale_type, k0 / kScaleK<C> + block, part));
  }
}

// Codes to fetch while others are multiplied: a few bytes of one stream with each line of products,
// then of the other. All at once, before the products, would be more than can be under way.
struct Ahead {
  const uint8_t* streams[2];
  int64_t step;  // from one line to the next but one; 0: nothing to fetch

  template <Code C>
  static constexpr int64_t kStep = kTileBytes<C> / (kTileLines / 2);
  template <Code C>
  void fetch() {
    for (int64_t i = 0; i < kStep<C>; i += kLineBytes)
      _mm_prefetch(reinterpret_cast<const char*>(streams[0] + i), _MM_HINT_T0);
    const uint8_t* next = streams[0] + step;
    streams[0] = streams[1];
    streams[1] = next;
  }
};

// Tokens whose sums are in registers together. Where a scale per group ends a sum every eight
// lines, the floats are kept in registers too.
template <class V, Code C>
inline constexpr int kTokensAtOnce =
    kScaleK<C> == kGroupK ? V::kTokensAtOnceWithFloats : V::kTokensAtOnce;

// Where a strip's sums come from and go to, token by token: from zeros or the dense copy that stays
// in cache between chunks, to that copy or to y.
struct Sums {
  const float* from;
  int64_t ld_from;  // 0: all from one row of zeros
  float* to;
  int64_t ld_to, n_rows;  // rows of `to` that are the call's to write

  Sums at(int64_t token) const {
    return {from + token * ld_from, ld_from, to + token * ld_to, ld_to, n_rows};
  }
};

// A line that is written must come from memory first; the products hide it.
static inline void prefetch_to_write(const float* p) { asm volatile("prefetchw %0" : : "m"(*p)); }

// Adds the strip times Tokens tokens over n_k inputs. The inputs of the next tokens are fetched
// meanwhile, token by token: rows apart, they are no stream that a processor follows, and waiting
// for them took a tenth of a product's time.
template <class V, Code C, int Tokens>
static void multiply_tokens(const Strip<V>& strip, int64_t n_k, const int8_t* x, int64_t ldx,
                            const float* x_scales, int64_t n_x_scales, const int32_t* bases,
                            int64_t ld_bases, const Sums& sums, Ahead ahead) {
  typename V::Floats out[Tokens][2];
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      out[t][v] = V::load_floats(sums.from + t * sums.ld_from + v * V::kLanes);
      prefetch_to_write(sums.to + t * sums.ld_to + v * V::kLanes);
    }
  const int8_t* next_x = x + Tokens * ldx;
  for (int64_t block = 0; block * kScaleK<C> < n_k; ++block) {
    const int64_t k_end = min((block + 1) * kScaleK<C>, n_k);
    typename V::Ints sum[Tokens][2];
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) sum[t][0] = sum[t][1] = V::set(bases[t * ld_bases + block]);
#pragma GCC unroll 1
    for (int64_t k = block * kScaleK<C>; k < k_end; k += kGroupK) {
#pragma GCC unroll 8
      for (int line = 0; line < kGroupLines; ++line) {
        ahead.fetch<C>();
        if (line < Tokens)
          _mm_prefetch(reinterpret_cast<const char*>(next_x + line * ldx + k), _MM_HINT_T0);
        const auto low = V::load(strip.lines[k / 4 + line]);
        const auto high = V::load(strip.lines[k / 4 + line] + V::kBytes);
#pragma GCC unroll 8
        for (int t = 0; t < Tokens; ++t) {
          const auto four = V::broadcast4(x + t * ldx + k + 4 * line);
          sum[t][0] = V::dot(sum[t][0], low, four);
          sum[t][1] = V::dot(sum[t][1], high, four);
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        out[t][v] =
            add_block<V>(out[t][v], sum[t][v], V::load_floats(strip.scales[block] + v * V::kLanes),
                         x_scales[t * n_x_scales + block]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v)
      V::store_rows(sums.to + t * sums.ld_to + v * V::kLanes, sums.n_rows - v * V::kLanes,
                    out[t][v]);
}

template <class V, Code C>
static void multiply_strip(const Task& task, const Strip<V>& strip, int64_t k0, int64_t n_k,
                           int64_t token, int64_t n_tokens, const int32_t* bases, int64_t ld_bases,
                           const Sums& sums, Ahead ahead) {
  // The first tokens fetch from memory, the last ones from L2, where inputs have driven the codes.
  int64_t t = 0;
  const Ahead nothing{{ahead.streams[0], ahead.streams[1]}, 0};
  const auto run = [&]<int Tokens>() {
    for (; t + Tokens <= n_tokens; t += Tokens) {
      multiply_tokens<V, C, Tokens>(strip, n_k, task.input(token + t, k0), task.x.padded_k,
                                    task.x_scales(token + t, k0 / kScaleK<C>),
                                    task.g.n_scale_blocks, bases + t * ld_bases, ld_bases,
                                    sums.at(t), t == 0 || t + Tokens == n_tokens ? ahead : nothing);
    }
  };
  run.template operator()<kTokensAtOnce<V, C>>();
  run.template operator()<4>();
  run.template operator()<2>();
  run.template operator()<1>();
}

// A call's codes in the order of their use: chunks of a strip, strips of a span, spans.
template <class V, Code C>
struct CodeOrder {
  static constexpr int64_t kStripPanels = Strip<V>::kRows / kPanelRows;
  const Task& task;
  int64_t first_panel, last_panel;

  const uint8_t* codes(int64_t panel, int64_t k) const {
    return panel_parts(task.w, task.g, panel).codes + k / kTileK * kTileBytes<C>;
  }
  Ahead strip(int64_t panel, int64_t k) const {
    return {{codes(panel, k), codes(panel + kStripPanels - 1, k)}, Ahead::kStep<C>};
  }
  // The chunk after one that starts at (panel, k), of a span. Behind the last come the panels that
  // follow, which this thread is likely to get as well.
  Ahead after(int64_t panel, int64_t k, int64_t span, int64_t span_end) const {
    if (k + kChunkK < span_end) return strip(panel, k + kChunkK);
    const int64_t next = panel + kStripPanels;
    if (next <= last_panel) return strip(next, span);
    return span_end < task.g.padded_k ? strip(first_panel, span_end) : strip(next, 0);
  }
  void fetch_meta(int64_t panel) const {
    for (int64_t p = panel; p < min(panel + kStripPanels, last_panel + 1); ++p)
      prefetch(panel_parts(task.w, task.g, p).scales, task.g.panel_meta_bytes);
  }
  void fetch_first() const {
    fetch_meta(first_panel);
    for (int64_t p = first_panel; p < min(first_panel + kStripPanels, last_panel + 1); ++p)
      prefetch(codes(p, 0), min(kChunkK, task.g.padded_k) / kTileK * kTileBytes<C>);
  }
};

// Panels whose sums stay in L2 from span to span, 64 KiB.
inline constexpr int64_t kPanelsTogether = 4;

template <class V, Code C>
static void multiply_together(const Task& task, int64_t first_panel, int64_t last_panel,
                              int64_t token, int64_t n_tokens) {
  constexpr int64_t kSpanBlocks = kSpanK / kScaleK<C>;
  constexpr int64_t kStripPanels = CodeOrder<V, C>::kStripPanels;
  constexpr int kRows = Strip<V>::kRows;
  int32_t bases[kTileTokens * kSpanBlocks + kGroupsTogether];
  alignas(64) float dense[kPanelsTogether / kStripPanels][kTileTokens][kRows];
  alignas(64) static constexpr float kZeros[kRows] = {};
  Strip<V> strip;
  // The last strip may hang over the end of the range: those rows are not this call's to write.
  const int64_t end_row = min(task.w.rows, (last_panel + 1) * kPanelRows);
  const CodeOrder<V, C> order{task, first_panel, last_panel};
  order.fetch_first();
  for (int64_t k0 = 0; k0 < task.g.padded_k; k0 += kSpanK) {
    const int64_t span_end = min(k0 + kSpanK, task.g.padded_k);
    for (int64_t t = 0; t < n_tokens; ++t)
      if constexpr (kScaleK<C> == kGroupK)
        group_bases(task.x_sums(token + t, k0), span_end - k0, kOffset<C>, bases + t * kSpanBlocks);
      else
        block_bases(task.x_sums(token + t, k0), span_end - k0, kScaleK<C>, kStripOffset<C>,
                    bases + t * kSpanBlocks);
    for (int64_t panel = first_panel; panel <= last_panel; panel += kStripPanels) {
      if (k0 == 0) order.fetch_meta(panel + kStripPanels);
      float* between = dense[(panel - first_panel) / kStripPanels][0];
      for (int64_t k = k0; k < span_end; k += kChunkK) {
        const int64_t n_k = min(kChunkK, span_end - k);
        unpack_strip<V, C>(task, panel, last_panel, k, n_k, strip);
        Sums sums{between, kRows, between, kRows, kRows};
        if (k == 0) sums.from = kZeros, sums.ld_from = 0;
        if (k + n_k == task.g.padded_k) {
          sums.to = task.y + token * task.ldy + panel * kPanelRows, sums.ld_to = task.ldy;
          sums.n_rows = end_row - panel * kPanelRows;
        }
        multiply_strip<V, C>(task, strip, k, n_k, token, n_tokens, bases + (k - k0) / kScaleK<C>,
                             kSpanBlocks, sums, order.after(panel, k, k0, span_end));
      }
    }
  }
}

template <class V, Code C>
static void multiply_many_tokens(const Task& task, int64_t first_panel, int64_t n_panels,
                                 int64_t token, int64_t n_tokens) {
  const int64_t end = first_panel + n_panels;
  for (int64_t panel = first_panel; panel < end; panel += kPanelsTogether)
    multiply_together<V, C>(task, panel, min(panel + kPanelsTogether, end) - 1, token, n_tokens);
}

}  // namespace lapidary::vnni
