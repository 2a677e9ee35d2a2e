// The rotary dims of V-only pages: keys turned within the page, queries turned back by the page's
// start. kernels/kv_attention.h; V as in lanes_matmul_float.h.
#pragma once

#include "kernels/lanes_kv_attention.h"

namespace lapidary::lanes {

// keys [n_rotary, 64], levels on the way in, w * level turned by 0 .. 63 positions on the way out.
template <class V>
static void turn_keys(const RotaryKeys& rotary, float* keys) {
  const int pairs = rotary.n_rotary / 2;
  for (int i = 0; i < pairs; ++i)
    for (int t = 0; t < kPageTokens; t += V::kLanes) {
      float *first = keys + i * kPageTokens + t, *second = first + pairs * kPageTokens;
      const auto cos = V::load(rotary.cosines + i * kPageTokens + t);
      const auto sin = V::load(rotary.sines + i * kPageTokens + t);
      const auto a = V::multiply(V::set(rotary.weights[i]), V::load(first));
      const auto b = V::multiply(V::set(rotary.weights[pairs + i]), V::load(second));
      V::store(first, V::multiply_add(V::negate(b), sin, V::multiply(a, cos)));
      V::store(second, V::multiply_add(a, sin, V::multiply(b, cos)));
    }
}

template <class V, int Rows>
static void rotary_scores(const PackedRow* rows, const PackedPage& page, RowScores* scores) {
  constexpr int kHere = Rows < 2 ? 1 : 2;  // rows at once: times 64 tokens, 8 sums of 16 lanes
  const int pairs = page.rotary->n_rotary / 2;
  const float *cos = page.page->start_angles, *sin = cos + pairs;
  const auto step = V::set(kStep1);
  for (int first = 0; first < Rows; first += kHere) {
    float turned[kHere][kKvBlockDims];
    for (int r = 0; r < kHere; ++r) {
      const float* q = rows[first + r].row.q;
      for (int i = 0; i < pairs; ++i) {
        turned[r][i] = __builtin_fmaf(q[pairs + i], sin[i], q[i] * cos[i]);
        turned[r][pairs + i] = __builtin_fmaf(-q[i], sin[i], q[pairs + i] * cos[i]);
      }
    }
    for (int t = 0; t < kPageTokens; t += 4 * V::kLanes) {
      typename V::Floats sum[kHere][4] = {};
      for (int i = 0; i < pairs; ++i)
        for (int half = 0; half < 2; ++half) {
          const float* key = page.rotary_keys + (half * pairs + i) * kPageTokens + t;
#pragma GCC unroll 2
          for (int r = 0; r < kHere; ++r) {
            const auto q = V::set(turned[r][half * pairs + i]);
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j)
              sum[r][j] = V::multiply_add(q, V::load(key + j * V::kLanes), sum[r][j]);
          }
        }
      for (int r = 0; r < kHere; ++r)
        for (int j = 0; j < 4; ++j) {
          const int at = t + j * V::kLanes;
          V::store(scores[first + r].key + at,
                   V::multiply(sum[r][j], V::multiply(V::load(page.values.scales[0] + at), step)));
        }
    }
  }
}

}  // namespace lapidary::lanes
