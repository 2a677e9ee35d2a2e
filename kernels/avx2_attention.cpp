// kernels/lanes_attention.h on eight lanes.
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_attention.h"

namespace lapidary::avx2 {

void attention(const AttentionQuery& a, int first_head, int n_heads_here) noexcept {
  lanes::attention<Lanes>(a, first_head, n_heads_here);
}

}  // namespace lapidary::avx2
