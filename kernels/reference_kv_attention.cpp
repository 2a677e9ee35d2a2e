// Attention on one packed page, scalar; see kernels/kv_attention.h for the arithmetic.
#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "kernels/kv_attention.h"
#include "kernels/reference.h"

namespace lapidary::reference {
namespace {

// A page's levels [block][token][dim] and raw scales, decoded once for all rows.
struct Decoded {
  const KvPageGeometry& page;
  int8_t levels[kPageTokens][kMaxPaddedDims];  // by padded dim
  float scales[kMaxKvBlocks][kPageTokens];     // without kKvScaleUnit

  Decoded(const KvPageGeometry& page, const void* data) : page(page) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    for (int b = 0; b < page.n_blocks; ++b) {
      const KvBlock& block = page.blocks[b];
      uint8_t lines[kPageTokens * kMaxPaddedDims];
      unpack_kv_units(block.code, bytes + block.offset, kv_units(block), lines);
      for (int t = 0; t < kPageTokens; ++t) {
        scales[b][t] = kv_scale(page, bytes, b, t) / kKvScaleUnit;
        for (int dim = 0; dim < block.padded_dims; ++dim) {
          const KvPlace place = kv_place(page, block, t, dim);
          levels[t][block.first_padded + dim] = static_cast<int8_t>(kv_index_level(
              page, block, lines[(place.unit * 2 + place.line) * 64 + place.byte], place.line));
        }
      }
    }
  }
};

// The rotary part of V-only scores. Keys are rebuilt as if the page started at position 0, and q is
// turned back by the page's first angle instead. Chains of fused operations over the pairs.
void packed_rotary_scores(const KvPage& page, const RotaryKeys& rotary, const Decoded& values,
                          const float* q, float* scores) {
  const int pairs = rotary.n_rotary / 2;
  const float *cos = page.start_angles, *sin = page.start_angles + pairs;
  for (int t = 0; t < kPageTokens; ++t) {
    float sum = 0;
    for (int i = 0; i < pairs; ++i) {
      const float q_a = std::fma(q[pairs + i], sin[i], q[i] * cos[i]);
      const float q_b = std::fma(-q[i], sin[i], q[pairs + i] * cos[i]);
      const float a = rotary.weights[i] * static_cast<float>(values.levels[t][i]);
      const float b = rotary.weights[pairs + i] * static_cast<float>(values.levels[t][pairs + i]);
      const float step_cos = rotary.cosines[i * kPageTokens + t];
      const float step_sin = rotary.sines[i * kPageTokens + t];
      sum = std::fma(q_a, std::fma(-b, step_sin, a * step_cos), sum);
      sum = std::fma(q_b, std::fma(a, step_sin, b * step_cos), sum);
    }
    scores[t] = sum * (values.scales[0][t] * kStep1);
  }
}

void add_scores(const Decoded& keys, int block, const PackedQuery& q, float* scores) {
  const KvBlock& b = keys.page.blocks[block];
  const bool two_planes = b.code == KvCode::kInt8;
  const float step = q.scale * (two_planes ? kStep2 : kStep1);
  for (int t = 0; t < kPageTokens; ++t) {
    int32_t sum = 0;
    for (int i = b.first_padded; i < b.first_padded + b.padded_dims; ++i)
      sum += (two_planes ? 254 * q.high[i] + q.low[i] : q.high[i]) * keys.levels[t][i];
    scores[t] += static_cast<float>(sum) * (keys.scales[block][t] * step);
  }
}

void add_values(const Decoded& values, int block, const float* p, float* out) {
  const KvBlock& b = values.page.blocks[block];
  const bool two_planes = b.code == KvCode::kInt8;
  float weights[kPageTokens], largest = 0;
  for (int t = 0; t < kPageTokens; ++t)
    largest = std::max(largest, weights[t] = p[t] * values.scales[block][t]);
  if (!(largest > kNoWeight)) return;
  const float factor = float(kWeightRange) / largest;
  int32_t whole[kPageTokens], total = 0;
  for (int t = 0; t < kPageTokens; ++t) {
    const auto weight =  // 0 for NaN, which the sum of p has already taken up
        static_cast<int32_t>(std::nearbyint(weights[t] > 0 ? weights[t] * factor : 0.0f));
    whole[t] = two_planes ? weight : ((total + weight + 64) >> 7) - ((total + 64) >> 7);
    total += weight;
  }
  const float step = largest * (two_planes ? kWeightStep2 : kWeightStep1);
  for (int dim = 0; dim < b.n_dims; ++dim) {
    int32_t sum = 0;
    for (int t = 0; t < kPageTokens; ++t) sum += whole[t] * values.levels[t][b.first_padded + dim];
    float& value = out[b.first_dim + dim];
    value = std::fma(static_cast<float>(sum), step, value);
  }
}

}  // namespace

void attend_packed_page(const KvPage& page, const AttentionTile& tile,
                        const AttentionState& state) noexcept {
  const bool shared = page.values.geometry->role == KvRole::kBoth;
  const Decoded values(*page.values.geometry, page.values.data);
  const Decoded keys = shared ? values : Decoded(*page.keys.geometry, page.keys.data);
  const int d = tile.head_dim;
  for (int64_t row = 0; row < int64_t{tile.n_tokens} * tile.group; ++row) {
    const int64_t token = row / tile.group;
    const int begin = tile.begin[token], end = tile.end[token];
    if (begin >= end) continue;
    const PackedQuery q = packed_query(keys.page, tile.packed_q, row);
    float scores[kPageTokens] = {};
    for (int b = 0; b < keys.page.n_blocks; ++b)
      if (keys.page.blocks[b].first_dim < keys.page.n_rotary)
        packed_rotary_scores(page, *tile.rotary_keys, values,
                             tile.q + token * tile.q_stride + row % tile.group * d, scores);
      else
        add_scores(keys, b, q, scores);

    float& max = state.max[row];
    float* out = state.out + row * d;
    const float old_max = max;
    for (int t = begin; t < end; ++t) max = std::max(max, scores[t]);
    double sum = 0;
    float p[kPageTokens] = {};
    for (int t = begin; t < end; ++t) sum += p[t] = std::exp(scores[t] - max);
    const float kept = max == old_max ? 1.0f : std::exp(old_max - max);
    state.sum[row] = static_cast<float>(state.sum[row] * double{kept} + sum);
    for (int i = 0; i < d; ++i) out[i] *= kept;
    for (int b = 0; b < values.page.n_blocks; ++b) add_values(values, b, p, out);
  }
}

}  // namespace lapidary::reference
