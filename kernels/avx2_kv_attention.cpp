// kernels/lanes_kv_attention.h on eight lanes: products of 16-bit words by vpmaddwd, which cannot
// saturate where vpmaddubsw would.
//
// A page is always decoded to int8 lines first. The four bytes of a word go in two halves, first
// and third, second and fourth, sign-extended in place; queries and weights are stored in that
// order. Both planes of a query (254 high + low) and of a weight (15 bits) fit one word.
#include "kernels/avx2_kv_decode.h"
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_kv_rotary.h"

namespace lapidary::avx2 {
namespace {

using lanes::PackedPage;
using lanes::PackedRow;
using lanes::PackedSide;
using lanes::RowScores;
using lanes::RowWeights;

struct Halves {
  __m256i even, odd;
};
Halves split(const uint8_t* line) {
  const __m256i bytes = load_ints(line);
  return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
}

// sum += four products; words: those of the even halves, then of the odd ones.
__m256i add_products(__m256i sum, const Halves& bytes, const int16_t* words) {
  int32_t even, odd;
  std::memcpy(&even, words, sizeof even);
  std::memcpy(&odd, words + 2, sizeof odd);
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(bytes.even, _mm256_set1_epi32(even)));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(bytes.odd, _mm256_set1_epi32(odd)));
}

// Words 0 1 2 3 of each four to 0 2 1 3.
__m256i even_first(__m256i words) {
  return _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(_mm_setr_epi8(
                                        0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15)));
}

void query_words(const PackedRow& row, const KvBlock& block, int16_t* words) {
  for (int i = 0; i < block.padded_dims; i += 16) {
    const auto at = [&](const int8_t* plane) {
      return _mm256_cvtepi8_epi16(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(plane + block.first_padded + i)));
    };
    __m256i q = at(row.query.high);
    if (lanes::two_planes(block))
      q = _mm256_add_epi16(_mm256_mullo_epi16(q, _mm256_set1_epi16(254)), at(row.query.low));
    _mm256_store_si256(reinterpret_cast<__m256i*>(words + i), even_first(q));
  }
}

struct PackedLanes : Lanes {
  static constexpr bool kAlwaysDecodes = true;

  static void decode(const KvBlock& block, const uint8_t* codes, bool keys, uint8_t* lines) {
    decode_units(block.code, codes, block.padded_dims / 2, keys, lines);
  }

  // Values (4 tokens of 16 dims a line) as keys (4 dims of 16 tokens), 4 x 4 bytes at a time.
  static void transpose(KvCode, const KvBlock& block, const uint8_t* lines, uint8_t* keys) {
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int dim = 0; dim < block.padded_dims; dim += 4)
      for (int t = 0; t < kPageTokens; t += 4) {
        const uint8_t* from = lines + dim / 32 * 2048 + t * 32 + dim % 32 * 4;
        uint8_t* to = keys + t / 16 * block.padded_dims * 16 + dim * 16 + t % 16 * 4;
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(to),
            _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), turn));
      }
  }

  static void rebuild_rotary(const uint8_t* lines, const RotaryKeys& rotary, float* keys) {
    for (int dim = 0; dim < rotary.n_rotary; ++dim)
      for (int t = 0; t < kPageTokens; t += 4) {
        int32_t four;
        std::memcpy(&four, lines + dim / 32 * 2048 + t * 32 + dim % 32 * 4, sizeof four);
        _mm_storeu_ps(keys + dim * kPageTokens + t,
                      _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four))));
      }
    lanes::turn_keys<Lanes>(rotary, keys);
  }

  template <int Rows>
  static void rotary_scores(const PackedRow* rows, const PackedPage& page, RowScores* scores) {
    lanes::rotary_scores<Lanes, Rows>(rows, page, scores);
  }

  template <int Rows>
  static void add_scores(const PackedRow* rows, const PackedSide& side, int b, RowScores* scores) {
    const KvBlock& block = side.page->blocks[b];
    alignas(32) int16_t words[Rows][kMaxPaddedDims];
    for (int r = 0; r < Rows; ++r) query_words(rows[r], block, words[r]);
    for (int t = 0; t < kPageTokens; t += kLanes) {
      const uint8_t* lines = side.codes(block) + t / 16 * block.padded_dims * 16 + t % 16 * 4;
      __m256i sum[Rows] = {};
      for (int dim = 0; dim < block.padded_dims; dim += 4) {
        const Halves bytes = split(lines + dim * 16);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) sum[r] = add_products(sum[r], bytes, words[r] + dim);
      }
      for (int r = 0; r < Rows; ++r) {
        const __m256 step =
            _mm256_set1_ps(rows[r].query.scale * (lanes::two_planes(block) ? kStep2 : kStep1));
        const __m256 scale = _mm256_mul_ps(_mm256_load_ps(side.scales[b] + t), step);
        float* score = scores[r].key + t;
        _mm256_store_ps(score, _mm256_add_ps(_mm256_load_ps(score),
                                             _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r]), scale)));
      }
    }
  }

  template <int Rows>
  static void add_values(const PackedRow* rows, const PackedSide& side, int b,
                         const RowWeights* weights, const float* steps) {
    const KvBlock& block = side.page->blocks[b];
    for (int dim = 0; dim < block.n_dims; dim += kLanes) {
      const uint8_t* lines = side.codes(block) + dim / 32 * 2048 + dim % 32 * 4;
      __m256i sum[Rows] = {};
      for (int t = 0; t < kPageTokens; t += 4) {
        const Halves bytes = split(lines + t * 32);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r)
          sum[r] =
              add_products(sum[r], bytes, reinterpret_cast<const int16_t*>(weights[r].bytes) + t);
      }
      const int n = block.n_dims - dim;
      for (int r = 0; r < Rows; ++r) {
        float* out = rows[r].row.out + block.first_dim + dim;
        const __m256 total = _mm256_cvtepi32_ps(sum[r]), step = _mm256_set1_ps(steps[r]);
        if (n >= kLanes)
          store(out, _mm256_fmadd_ps(total, step, load(out)));
        else
          store_partial(out, n, _mm256_fmadd_ps(total, step, load_partial(out, n)));
      }
    }
  }

  static void store_weights(const float* weights, bool two, uint8_t* bytes) {
    alignas(32) int32_t whole[kPageTokens];
    for (int t = 0; t < kPageTokens; t += kLanes)
      _mm256_store_si256(reinterpret_cast<__m256i*>(whole + t),
                         _mm256_cvtps_epi32(_mm256_load_ps(weights + t)));
    if (!two) {
      int32_t total = 0;
      for (int t = 0; t < kPageTokens; ++t) {
        const int32_t before = (total + 64) >> 7;
        total += whole[t];
        whole[t] = ((total + 64) >> 7) - before;
      }
    }
    auto* words = reinterpret_cast<int16_t*>(bytes);
    for (int t = 0; t < kPageTokens; t += 4) {
      words[t] = static_cast<int16_t>(whole[t]);
      words[t + 1] = static_cast<int16_t>(whole[t + 2]);
      words[t + 2] = static_cast<int16_t>(whole[t + 1]);
      words[t + 3] = static_cast<int16_t>(whole[t + 3]);
    }
  }
};

}  // namespace

void attend_packed_page(const KvPage& page, const AttentionTile& tile,
                        const AttentionState& state) noexcept {
  lanes::attend_packed_page<PackedLanes>(page, tile, state);
}

}  // namespace lapidary::avx2
