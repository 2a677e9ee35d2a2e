// y = W x with int8 activations: exact integers per scale block, the reference's bits.
//
// vpmaddubsw wants one unsigned operand: |w| takes that place and x gets w's sign. Its 16-bit pair
// sums are added over as many lines as cannot overflow (|x| <= 127):
//   levels to 16 (w3, w4, w5): 8 lines * 2 * 16 * 127 = 32512, a whole group of 32 k, so the
//   group's multiplier rides on the widening vpmaddwd for free;   w6, to 32: 4 lines;   w8 and
//   trellis codes, to 128: 1 line.
//
// A single token, and w4x always, goes the way of vnni_few_tokens.h instead, from memory to
// registers: vpmaddubsw on unsigned indices of 6 bits and fewer cannot overflow.
#include "kernels/avx2.h"
#include "kernels/avx2_decode.h"
#include "kernels/avx2_panel.h"
#include "kernels/vnni_few_tokens.h"

namespace lapidary::avx2 {
namespace {

constexpr int kGroupLines = kGroupK / 4;
constexpr int kMaxBlockGroups = 512 / kGroupK;  // of the widest scale block

template <Code C>
constexpr int kLinesPerSum = vnni::kOffset<C> == 128 ? 1
                             : C == Code::kW6        ? 4
                                                     : 8;

// The weights of one panel and scale block, decoded.
struct Block {
  int n_groups;
  const int8_t* lines;         // [n_groups * 8][64]
  const __m256i* multipliers;  // [n_groups][2]: 16-bit pairs per row; null: all ones
  __m256 scales[2];
};

struct Output {
  float* y;  // of token 0, row 0 of the panel
  int64_t ldy;
  int n_rows;
  bool first_block;
};

// y += float(sum) * (weight scale * x scale), eight rows, each operation rounded.
void add_eight(const Output& out, int64_t token, int row, __m256i sum, __m256 w_scale,
               float x_scale) {
  if (row >= out.n_rows) return;
  float* y = out.y + token * out.ldy + row;
  const __m256 scale = _mm256_mul_ps(w_scale, _mm256_set1_ps(x_scale));
  const __m256 term = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
  const int here = out.n_rows - row < kLanes ? out.n_rows - row : kLanes;
  __m256 before = _mm256_setzero_ps();
  if (!out.first_block) before = here == kLanes ? load8(y) : load_partial(y, here);
  const __m256 after = _mm256_add_ps(before, term);
  if (here == kLanes)
    _mm256_storeu_ps(y, after);
  else
    store_partial(y, here, after);
}

// The block times tokens token .. token + Tokens - 1; q points at the block's first k of token 0.
template <Code C, int Tokens>
void multiply_tokens(const Block& block, const int8_t* q, int64_t ldq, const float* x_scales,
                     int64_t n_x_scales, int64_t token, const Output& out) {
  constexpr int kLines = kLinesPerSum<C>;
  const int8_t* input = q + token * ldq;
  __m256i sum[Tokens][2] = {};
  for (int group = 0; group < block.n_groups; ++group) {
    __m256i factor[2] = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
    if (block.multipliers != nullptr) {
      factor[0] = _mm256_load_si256(block.multipliers + 2 * group);
      factor[1] = _mm256_load_si256(block.multipliers + 2 * group + 1);
    }
    for (int first = group * kGroupLines; first < (group + 1) * kGroupLines; first += kLines) {
      __m256i pairs[Tokens][2] = {};
#pragma GCC unroll 8
      for (int line = first; line < first + kLines; ++line) {
        const __m256i low = load_bytes(block.lines + kLineBytes * line);
        const __m256i high = load_bytes(block.lines + kLineBytes * line + 32);
        const __m256i abs_low = _mm256_abs_epi8(low), abs_high = _mm256_abs_epi8(high);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          int32_t four;
          std::memcpy(&four, input + t * ldq + 4 * line, sizeof four);
          const __m256i x = _mm256_set1_epi32(four);
          pairs[t][0] = _mm256_add_epi16(pairs[t][0],
                                         _mm256_maddubs_epi16(abs_low, _mm256_sign_epi8(x, low)));
          pairs[t][1] = _mm256_add_epi16(pairs[t][1],
                                         _mm256_maddubs_epi16(abs_high, _mm256_sign_epi8(x, high)));
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
        for (int half = 0; half < 2; ++half)
          sum[t][half] =
              _mm256_add_epi32(sum[t][half], _mm256_madd_epi16(pairs[t][half], factor[half]));
    }
  }
  for (int t = 0; t < Tokens; ++t)
    for (int half = 0; half < 2; ++half)
      add_eight(out, token + t, kLanes * half, sum[t][half], block.scales[half],
                x_scales[(token + t) * n_x_scales]);
}

template <Code C>
void multiply_block(const Block& block, const int8_t* q, int64_t ldq, const float* x_scales,
                    int64_t n_x_scales, int64_t n_tokens, const Output& out) {
  int64_t token = 0;
  for (; token + 4 <= n_tokens; token += 4)
    multiply_tokens<C, 4>(block, q, ldq, x_scales, n_x_scales, token, out);
  if (token + 2 <= n_tokens) {
    multiply_tokens<C, 2>(block, q, ldq, x_scales, n_x_scales, token, out);
    token += 2;
  }
  if (token < n_tokens) multiply_tokens<C, 1>(block, q, ldq, x_scales, n_x_scales, token, out);
}

// int8 multipliers of 16 rows as equal pairs of int16, rows 0-7 and 8-15.
void widen_multipliers(__m128i bytes, __m256i out[2]) {
  const __m256i words = _mm256_cvtepi8_epi16(bytes);
  const __m256i low = _mm256_unpacklo_epi16(words, words);
  const __m256i high = _mm256_unpackhi_epi16(words, words);
  out[0] = _mm256_permute2x128_si256(low, high, 0x20);
  out[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

template <Code C>
void multiply_panel(const MatrixView& w, const PackedGeometry& g, int64_t panel,
                    const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) {
  const CodeTraits& t = traits(C);
  const PanelParts parts = panel_parts(w, g, panel);
  const int64_t rest = w.rows - panel * kPanelRows;
  Output out{y + panel * kPanelRows, ldy, static_cast<int>(rest < kPanelRows ? rest : kPanelRows),
             true};
  alignas(32) int8_t lines[kMaxBlockGroups * kGroupLines * kLineBytes];
  __m256i multipliers[kMaxBlockGroups][2];
  const int block_groups = t.scale_k / kGroupK;
  int64_t decoded_tile = -1;
  for (int64_t first = 0; first < g.n_groups; first += block_groups) {
    const int64_t left = g.n_groups - first;
    Block block{static_cast<int>(left < block_groups ? left : block_groups), lines, nullptr, {}};
    if constexpr (C == Code::kW8 || C == Code::kW8x) {
      block.lines = reinterpret_cast<const int8_t*>(parts.codes) + first * kGroupLines * kLineBytes;
    } else if (block_groups == 1) {  // half a tile per block: decode every second time
      if (first / 2 != decoded_tile) {
        decoded_tile = first / 2;
        decode_levels<C>(parts.codes + decoded_tile * g.tile_bytes, lines);
      }
      block.lines = lines + first % 2 * kGroupLines * kLineBytes;
    } else {
      for (int group = 0; group < block.n_groups; group += 2)
        decode_levels<C>(parts.codes + (first + group) / 2 * g.tile_bytes,
                         lines + group * kGroupLines * kLineBytes);
    }
    if (t.multiplier_bits > 0) {
      for (int group = 0; group < block.n_groups; group += 2) {
        const __m256i both = load_multipliers(parts, (first + group) / 2, t.max_multiplier);
        widen_multipliers(_mm256_castsi256_si128(both), multipliers[group]);
        widen_multipliers(_mm256_extracti128_si256(both, 1), multipliers[group + 1]);
      }
      block.multipliers = multipliers[0];
    }
    const int64_t scale_block = first / block_groups;
    block.scales[0] = load_scales(parts, w.scale_type, scale_block, 0);
    block.scales[1] = load_scales(parts, w.scale_type, scale_block, kLanes);
    multiply_block<C>(block, x.q + first * kGroupK, x.padded_k, x.scales + scale_block,
                      g.n_scale_blocks, n_tokens, out);
    out.first_block = false;
  }
}

struct Vpmaddubsw {
  static __m256i dot(__m256i sum, __m256i u8, __m256i s8) {
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(u8, s8), _mm256_set1_epi16(1)));
  }
};

template <Code C>
void multiply_panels(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                     const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) {
  const PackedGeometry g = packed_geometry(w.code, w.rows, w.k);
  if constexpr (vnni::kOffset<C> < 128) {
    // Several tokens are worth a detour over decoded lines, unless a scale ends every eighth line.
    constexpr int64_t kTogether = C == Code::kW4x ? vnni::kFewTokens : 1;
    if (n_tokens == 1 || kTogether > 1) {
      const vnni::Task task{w, g, x, y, ldy};
      for (int64_t token = 0; token < n_tokens; token += kTogether)
        vnni::multiply_few_tokens<PanelVector<Vpmaddubsw>, C>(
            task, first_panel, n_panels, token, vnni::min(kTogether, n_tokens - token));
      return;
    }
  }
  for (int64_t panel = first_panel; panel < first_panel + n_panels; ++panel)
    multiply_panel<C>(w, g, panel, x, n_tokens, y, ldy);
}

}  // namespace

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  switch (w.code) {
    case Code::kW8:
      return multiply_panels<Code::kW8>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kW6:
      return multiply_panels<Code::kW6>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kW5:
      return multiply_panels<Code::kW5>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kW4:
      return multiply_panels<Code::kW4>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kW3:
      return multiply_panels<Code::kW3>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kW4x:
      return multiply_panels<Code::kW4x>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kW8x:
      return multiply_panels<Code::kW8x>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kT3:
      return multiply_panels<Code::kT3>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kT4:
      return multiply_panels<Code::kT4>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kT5:
      return multiply_panels<Code::kT5>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    case Code::kT6:
      return multiply_panels<Code::kT6>(w, first_panel, n_panels, x, n_tokens, y, ldy);
    default:
      return;  // float codes have no int8 product
  }
}

}  // namespace lapidary::avx2
