// The search for a ring's symbols, state by state.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/reference.h"
#include "kernels/trellis_search.h"

namespace lapidary {
namespace {

using Values = std::array<float, kTrellisStates>;

Values values_of(int bits) {
  Values values;
  for (uint32_t state = 0; state < kTrellisStates; ++state)
    values[state] = trellis_level(bits, state);
  return values;
}

struct Search {
  int bits, n;
  const float* x;
  const float* w;
  float* costs;  // [steps + 1][histories]
  int n_histories = trellis_histories(bits);
  const float* values = trellis_values(bits);

  // Of being in a state at step t, having come from its history.
  float cost(const float* before, int t, int state) const {
    const float distance = std::fma(-w[t], values[state], x[t] * w[t]);
    return std::fma(distance, distance, before[state >> bits]);
  }

  // Steps first, first - 1, ..., `count` of them around the ring, from history `start` or from any.
  void forward(int first, int count, int start) const {
    for (int h = 0; h < n_histories; ++h) costs[h] = start < 0 || h == start ? 0.0f : kNeverCost;
    for (int i = 0; i < count; ++i) {
      const float* before = costs + i * n_histories;
      for (int h = 0; h < n_histories; ++h) {
        float least = kNeverCost;
        for (int state = h; state < kTrellisStates; state += n_histories)
          least = std::min(least, cost(before, (first - i + n) % n, state));
        costs[(i + 1) * n_histories + h] = least;
      }
    }
  }

  // The state at step number `i` of those just searched that leads to history h after it.
  int state_before(int first, int i, int h) const {
    int best = h;
    float least = cost(costs + i * n_histories, (first - i + n) % n, h);
    for (int state = h + n_histories; state < kTrellisStates; state += n_histories) {
      const float c = cost(costs + i * n_histories, (first - i + n) % n, state);
      if (c < least) least = c, best = state;
    }
    return best;
  }
};

}  // namespace

const float* trellis_values(int bits) {
  static const Values kValues[] = {values_of(3), values_of(4), values_of(5), values_of(6)};
  return kValues[bits - 3].data();
}

void reference::search_trellis(int bits, int n, const float* x, const float* w, float* scratch,
                               uint8_t* symbols) noexcept {
  const Search search{bits, n, x, w, scratch};
  const int seam = std::min(kSeamSteps, n / 2);
  search.forward(seam - 1, 2 * seam, -1);
  const float* last = scratch + 2 * seam * search.n_histories;
  int h = static_cast<int>(std::min_element(last, last + search.n_histories) - last);
  for (int i = 2 * seam - 1; i >= seam; --i) h = search.state_before(seam - 1, i, h) >> bits;
  search.forward(n - 1, n, h);
  for (int i = n - 1; i >= 0; --i) {
    const int state = search.state_before(n - 1, i, h);
    symbols[n - 1 - i] = static_cast<uint8_t>(state & ((1 << bits) - 1));
    h = state >> bits;
  }
}

}  // namespace lapidary
