// The search for a ring's symbols, eight histories at a time.
#include "kernels/avx2.h"
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_trellis.h"

namespace lapidary::avx2 {
namespace {

struct TrellisLanes : Lanes {
  static Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  template <int kBits>
  static Floats spread(const float* p) {
    return _mm256_broadcast_ss(p);
  }
};

}  // namespace

void search_trellis(int bits, int n, const float* x, const float* w, float* scratch,
                    uint8_t* symbols) noexcept {
  lanes::search_trellis<TrellisLanes>(bits, n, x, w, scratch, symbols);
}

}  // namespace lapidary::avx2
