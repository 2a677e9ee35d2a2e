// The search for a ring's symbols, sixteen histories at a time.
#include "kernels/avx512.h"
#include "kernels/avx512_lanes.h"
#include "kernels/lanes_trellis.h"

namespace lapidary::avx512 {
namespace {

struct TrellisLanes : Lanes {
  static Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  template <int kBits>
  static Floats spread(const float* p) {
    if constexpr (1 << kBits >= kLanes)
      return _mm512_set1_ps(*p);
    else  // two
      return _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(p[0]), _mm512_set1_ps(p[1]));
  }
};

}  // namespace

void search_trellis(int bits, int n, const float* x, const float* w, float* scratch,
                    uint8_t* symbols) noexcept {
  lanes::search_trellis<TrellisLanes>(bits, n, x, w, scratch, symbols);
}

}  // namespace lapidary::avx512
