// kernels/lanes_attention.h on sixteen lanes.
#include "kernels/avx512_lanes.h"
#include "kernels/lanes_attention.h"

namespace lapidary::avx512 {

void attention(const AttentionQuery& a, int first_head, int n_heads_here) noexcept {
  lanes::attention<Lanes>(a, first_head, n_heads_here);
}

}  // namespace lapidary::avx512
