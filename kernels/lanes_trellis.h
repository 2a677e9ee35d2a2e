// The search for a ring's symbols, a lane for each of neighbouring histories: one algorithm for
// vectors of 8 and 16 lanes. kernels/trellis_search.h describes it; the arithmetic is element by
// element that of reference_trellis.cpp, so that every table finds the same ring.
//
// V: as in lanes_matmul_float.h, with min() and spread<kBits>(p), the 2^-kBits * kLanes floats at p
// (one at least), each repeated for 2^kBits lanes.
#pragma once

#include "kernels/trellis_search.h"

namespace lapidary::lanes {

template <class V, int kBits>
struct TrellisSearch {
  static constexpr int kHistories = trellis_histories(kBits), kSymbols = 1 << kBits;
  using Floats = typename V::Floats;

  int n;
  const float* x;
  const float* w;
  float* costs;
  const float* values;

  [[gnu::always_inline]] static Floats cost(Floats value, Floats before, Floats minus_w,
                                            Floats target) {
    const Floats distance = V::multiply_add(minus_w, value, target);
    return V::multiply_add(distance, distance, before);
  }

  void step(int i, int t) const {
    const float* before = costs + i * kHistories;
    float* after = costs + (i + 1) * kHistories;
    const Floats minus_w = V::set(-w[t]), target = V::set(x[t] * w[t]);
    constexpr int kTogether = 2;  // vectors of histories, so that minima need not wait
    for (int h = 0; h < kHistories; h += kTogether * V::kLanes) {
      Floats least[kTogether] = {V::set(kNeverCost), V::set(kNeverCost)};
#pragma GCC unroll 4
      for (int state = h; state < kTrellisStates; state += kHistories)
#pragma GCC unroll 2
        for (int j = 0; j < kTogether; ++j) {
          const int at = state + j * V::kLanes;
          least[j] = V::min(
              least[j], cost(V::load(values + at),
                             V::template spread<kBits>(before + (at >> kBits)), minus_w, target));
        }
      for (int j = 0; j < kTogether; ++j) V::store(after + h + j * V::kLanes, least[j]);
    }
  }

  void forward(int first, int count, int start) const {
    for (int h = 0; h < kHistories; ++h) costs[h] = start < 0 || h == start ? 0.0f : kNeverCost;
    for (int i = 0, t = first; i<count; ++i, t = t> 0 ? t - 1 : n - 1) step(i, t);
  }

  int state_before(int first, int i, int h) const {
    const int t = first - i < 0 ? first - i + n : first - i;
    const float* before = costs + i * kHistories;
    const float minus_w = -w[t], target = x[t] * w[t];
    int best = h;
    float least = 2 * kNeverCost;
#pragma GCC unroll 4
    for (int state = h; state < kTrellisStates; state += kHistories) {
      const float distance = __builtin_fmaf(minus_w, values[state], target);
      const float c = __builtin_fmaf(distance, distance, before[state >> kBits]);
      best = c < least ? state : best;
      least = c < least ? c : least;
    }
    return best;
  }

  void search(uint8_t* symbols) const {
    const int seam = kSeamSteps < n / 2 ? kSeamSteps : n / 2;
    forward(seam - 1, 2 * seam, -1);
    const float* last = costs + 2 * seam * kHistories;
    int h = 0;
    for (int other = 1; other < kHistories; ++other)
      if (last[other] < last[h]) h = other;
    for (int i = 2 * seam - 1; i >= seam; --i) h = state_before(seam - 1, i, h) >> kBits;
    forward(n - 1, n, h);
    for (int i = n - 1; i >= 0; --i) {
      const int state = state_before(n - 1, i, h);
      symbols[n - 1 - i] = static_cast<uint8_t>(state & (kSymbols - 1));
      h = state >> kBits;
    }
  }
};

// kernels.h, search_trellis.
template <class V>
static void search_trellis(int bits, int n, const float* x, const float* w, float* scratch,
                           uint8_t* symbols) {
  const auto run = [&]<int kBits>() {
    TrellisSearch<V, kBits>{n, x, w, scratch, trellis_values(kBits)}.search(symbols);
  };
  if (bits == 3) run.template operator()<3>();
  if (bits == 4) run.template operator()<4>();
  if (bits == 5) run.template operator()<5>();
  if (bits == 6) run.template operator()<6>();
}

}  // namespace lapidary::lanes
