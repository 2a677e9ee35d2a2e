// kernels/lanes_kv_attention.h on sixteen lanes: integer products by vpdpbusd.
//
// Scores: levels + 128 (unsigned) times int8 queries, 4 dims of 16 tokens at once; the 128 comes
// off with the sum of the query. Values: weights (unsigned) times levels, 4 tokens of 16 dims.
// 8-bit sides take two planes of queries or weights, the others one.
#include "kernels/avx512_kv_decode.h"
#include "kernels/avx512_lanes.h"
#include "kernels/lanes_kv_rotary.h"

namespace lapidary::avx512 {
namespace {

using lanes::PackedPage;
using lanes::PackedRow;
using lanes::PackedSide;
using lanes::RowScores;
using lanes::RowWeights;

// By hand: GCC 12 copies the sum around the intrinsic each time.
__m512i dot(__m512i sum, __m512i u8, __m512i s8) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8));
  return sum;
}
__m512i dot_broadcast(__m512i sum, __m512i u8, const int8_t* s8) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(sum)
      : "v"(u8), "m"(*reinterpret_cast<const int8_t(*)[4]>(s8)));
  return sum;
}

// Scores of Rows rows with Groups x 16 tokens at a time.
template <KvCode C, int Planes, int Rows>
void score_block(const PackedRow* rows, const PackedSide& side, int b, RowScores* scores) {
  constexpr int kGroups = 8 / Rows < 4 ? 8 / Rows : 4;  // 16 sums, or 8 for one row
  const KvBlock& block = side.page->blocks[b];
  const int n_units = block.padded_dims / 8;
  const Decoder<C, true> decode;
  const int8_t *high[Rows], *low[Rows];
  for (int r = 0; r < Rows; ++r) {
    high[r] = rows[r].query.high + block.first_padded;
    low[r] = rows[r].query.low + block.first_padded;
  }
  for (int group = 0; group < 4; group += kGroups) {
    const uint8_t* codes = side.codes(block) + group * n_units * kUnitBytes<C>;
    __m512i sum[kGroups][Rows][2] = {};
    for (int unit = 0; unit < n_units; ++unit, codes += kUnitBytes<C>) {
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        const Lines lines = decode(codes + g * n_units * kUnitBytes<C>);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          auto& s = sum[g][r];
          s[0] = dot_broadcast(s[0], lines.a, high[r] + 8 * unit);
          if constexpr (Planes == 2) {
            s[1] = dot_broadcast(s[1], lines.a, low[r] + 8 * unit);
            s[0] = dot_broadcast(s[0], lines.b, high[r] + 8 * unit + 4);
            s[1] = dot_broadcast(s[1], lines.b, low[r] + 8 * unit + 4);
          } else {
            s[1] = dot_broadcast(s[1], lines.b, high[r] + 8 * unit + 4);
          }
        }
      }
    }
    for (int g = 0; g < kGroups; ++g)
      for (int r = 0; r < Rows; ++r) {
        const int32_t* q_sums = rows[r].query.sums + 2 * b;
        __m512i total;
        if constexpr (Planes == 2)
          total = _mm512_add_epi32(
              _mm512_mullo_epi32(sum[g][r][0], _mm512_set1_epi32(254)),
              _mm512_sub_epi32(sum[g][r][1],
                               _mm512_set1_epi32(128 * (254 * q_sums[0] + q_sums[1]))));
        else
          total = _mm512_sub_epi32(_mm512_add_epi32(sum[g][r][0], sum[g][r][1]),
                                   _mm512_set1_epi32(128 * q_sums[0]));
        const __m512 step = _mm512_set1_ps(rows[r].query.scale * (Planes == 2 ? kStep2 : kStep1));
        float* score = scores[r].key + 16 * (group + g);
        const __m512 scale = _mm512_mul_ps(_mm512_load_ps(side.scales[b] + 16 * (group + g)), step);
        _mm512_store_ps(score, _mm512_add_ps(_mm512_load_ps(score),
                                             _mm512_mul_ps(_mm512_cvtepi32_ps(total), scale)));
      }
  }
}

// Values of Rows rows, 32 dims at a time.
template <KvCode C, int Planes, int Rows>
void value_block(const PackedRow* rows, const PackedSide& side, int b, const RowWeights* weights,
                 const float* steps) {
  const KvBlock& block = side.page->blocks[b];
  const Decoder<C, false> decode;
  const uint8_t* codes = side.codes(block);
  for (int first = 0; first < block.padded_dims; first += 32) {
    __m512i sum[Rows][Planes][2] = {};
#pragma GCC unroll 2
    for (int t = 0; t < kPageTokens; t += 4, codes += kUnitBytes<C>) {
      const Lines lines = decode(codes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
        for (int plane = 0; plane < Planes; ++plane) {
          int32_t four;
          std::memcpy(&four, weights[r].bytes + plane * kPageTokens + t, sizeof four);
          const __m512i w = _mm512_set1_epi32(four);
          sum[r][plane][0] = dot(sum[r][plane][0], w, lines.a);
          sum[r][plane][1] = dot(sum[r][plane][1], w, lines.b);
        }
    }
    for (int r = 0; r < Rows; ++r)
      for (int line = 0; line < 2; ++line) {
        __m512i total = sum[r][0][line];
        if constexpr (Planes == 2)
          total = _mm512_add_epi32(_mm512_slli_epi32(total, 7), sum[r][1][line]);
        const __mmask16 lanes = first_lanes(block.n_dims - first - 16 * line);
        float* out = rows[r].row.out + block.first_dim + first + 16 * line;
        const __m512 old = _mm512_maskz_loadu_ps(lanes, out);
        _mm512_mask_storeu_ps(
            out, lanes, _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(steps[r]), old));
      }
  }
}

struct KvLanes : Lanes {
  static constexpr bool kAlwaysDecodes = false;

  static void decode(const KvBlock& block, const uint8_t* codes, bool keys, uint8_t* lines) {
    with_code(block.code, [&]<KvCode C>() {
      const Decoder<C, true> of_keys;
      const Decoder<C, false> of_values;
      for (int unit = 0; unit < block.padded_dims / 2; ++unit, codes += kUnitBytes<C>) {
        const Lines l = keys ? of_keys(codes) : of_values(codes);
        _mm512_store_si512(lines + 128 * unit, l.a);
        _mm512_store_si512(lines + 128 * unit + 64, l.b);
      }
    });
  }

  // Values (4 tokens of 16 dims a line) as keys (4 dims of 16 tokens): words are transposed as 4 x
  // 4 bytes, then 4 lines as 4 x 4 quarters.
  static void transpose(KvCode stored, const KvBlock& block, const uint8_t* codes, uint8_t* keys) {
    const __m512i turn =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const int group_bytes = block.padded_dims * 16;
    with_code(stored, [&]<KvCode C>() {
      const Decoder<C, false> decode;
      for (int first = 0; first < block.padded_dims; first += 32)
        for (int group = 0; group < 4; ++group, codes += 4 * kUnitBytes<C>) {
          __m512i lines[2][4];
          for (int i = 0; i < 4; ++i) {
            const Lines l = decode(codes + i * kUnitBytes<C>);
            lines[0][i] = l.a, lines[1][i] = l.b;
          }
          for (int half = 0; half < 2; ++half) {
            __m512i* v = lines[half];
            for (int i = 0; i < 4; ++i)
              v[i] = _mm512_xor_si512(_mm512_shuffle_epi8(v[i], turn), _mm512_set1_epi8(-128));
            const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44);
            const __m512i c = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
            const __m512i d = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
            const __m512i e = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
            uint8_t* out = keys + group * group_bytes + (first + 16 * half) * 16;
            _mm512_store_si512(out, _mm512_shuffle_i32x4(a, d, 0x88));
            _mm512_store_si512(out + 64, _mm512_shuffle_i32x4(a, d, 0xdd));
            _mm512_store_si512(out + 128, _mm512_shuffle_i32x4(c, e, 0x88));
            _mm512_store_si512(out + 192, _mm512_shuffle_i32x4(c, e, 0xdd));
          }
        }
    });
  }

  // keys [n_rotary, 64]: w * level, turned by the position within the page.
  static void rebuild_rotary(const uint8_t* codes, const RotaryKeys& rotary, float* keys) {
    for (int dim = 0; dim < rotary.n_rotary; dim += 16)
      for (int group = 0; group < 4; ++group) {
        const uint8_t* at = codes + dim / 32 * 2048 + group * 512 + dim / 16 % 2 * 64;
        const __m512i q0 = _mm512_loadu_si512(at), q1 = _mm512_loadu_si512(at + 128);
        const __m512i q2 = _mm512_loadu_si512(at + 256), q3 = _mm512_loadu_si512(at + 384);
        const __m512i a = _mm512_unpacklo_epi32(q0, q1), b = _mm512_unpackhi_epi32(q0, q1);
        const __m512i c = _mm512_unpacklo_epi32(q2, q3), d = _mm512_unpackhi_epi32(q2, q3);
        alignas(64) uint8_t turned[4][64];  // [dim % 4][dim / 4][16 tokens]
        _mm512_store_si512(turned[0], _mm512_unpacklo_epi64(a, c));
        _mm512_store_si512(turned[1], _mm512_unpackhi_epi64(a, c));
        _mm512_store_si512(turned[2], _mm512_unpacklo_epi64(b, d));
        _mm512_store_si512(turned[3], _mm512_unpackhi_epi64(b, d));
        for (int i = 0; i < 16 && dim + i < rotary.n_rotary; ++i)
          _mm512_storeu_ps(keys + (dim + i) * kPageTokens + 16 * group,
                           _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(
                               reinterpret_cast<const __m128i*>(turned[i % 4] + i / 4 * 16)))));
      }
    lanes::turn_keys<Lanes>(rotary, keys);
  }

  template <int Rows>
  static void rotary_scores(const PackedRow* rows, const PackedPage& page, RowScores* scores) {
    lanes::rotary_scores<Lanes, Rows>(rows, page, scores);
  }

  template <int Rows>
  static void add_scores(const PackedRow* rows, const PackedSide& side, int b, RowScores* scores) {
    if (lanes::two_planes(side.page->blocks[b]))
      return score_block<KvCode::kInt8, 2, Rows>(rows, side, b, scores);
    with_code(side.stored(side.page->blocks[b]),
              [&]<KvCode C>() { score_block<C, 1, Rows>(rows, side, b, scores); });
  }

  template <int Rows>
  static void add_values(const PackedRow* rows, const PackedSide& side, int b,
                         const RowWeights* weights, const float* steps) {
    if (lanes::two_planes(side.page->blocks[b])) {
      constexpr int kHere = Rows < 4 ? Rows : 4;  // times 2 planes
      for (int r = 0; r < Rows; r += kHere)
        value_block<KvCode::kInt8, 2, kHere>(rows + r, side, b, weights + r, steps + r);
      return;
    }
    with_code(side.stored(side.page->blocks[b]),
              [&]<KvCode C>() { value_block<C, 1, Rows>(rows, side, b, weights, steps); });
  }

  // Running sums in 16 lanes, and their roundings' differences.
  static __m512i prefix_sums(__m512i v) {
    const __m512i zero = _mm512_setzero_si512();
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 15));
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 14));
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 12));
    return _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 8));
  }
  static void store_weights(const float* weights, bool two, uint8_t* bytes) {
    __m512i before = _mm512_setzero_si512(), rounded_before = before;  // all lanes the same
    for (int t = 0; t < kPageTokens; t += 16) {
      const __m512i w = _mm512_cvtps_epi32(_mm512_load_ps(weights + t));
      __m512i high = _mm512_srli_epi32(w, 7);
      if (two) {
        const __m512i low = _mm512_and_si512(w, _mm512_set1_epi32(127));
        _mm_store_si128(reinterpret_cast<__m128i*>(bytes + kPageTokens + t),
                        _mm512_cvtepi32_epi8(low));
      } else {
        const __m512i sums = _mm512_add_epi32(before, prefix_sums(w));
        const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(sums, _mm512_set1_epi32(64)), 7);
        high = _mm512_sub_epi32(rounded, _mm512_alignr_epi32(rounded, rounded_before, 15));
        before = _mm512_permutexvar_epi32(_mm512_set1_epi32(15), sums);
        rounded_before = rounded;
      }
      _mm_store_si128(reinterpret_cast<__m128i*>(bytes + t), _mm512_cvtepi32_epi8(high));
    }
  }
};

}  // namespace

void attend_packed_page(const KvPage& page, const AttentionTile& tile,
                        const AttentionState& state) noexcept {
  lanes::attend_packed_page<KvLanes>(page, tile, state);
}

}  // namespace lapidary::avx512
