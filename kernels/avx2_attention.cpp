// kernels/lanes_attention.h on eight lanes.
#include "kernels/avx2_lanes.h"
#include "kernels/kv_attention.h"
#include "kernels/lanes_attention.h"

namespace lapidary::avx2 {

void attend_page(const KvPage& page, const AttentionTile& tile,
                 const AttentionState& state) noexcept {
  if (page.values.geometry)
    attend_packed_page(page, tile, state);
  else if (page.start_angles)
    attend_with_rebuilt_keys(attend_page, page, tile, state);
  else
    lanes::attend_page<Lanes>(page, tile, state);
}

void merge_attention(const AttentionState& part, int64_t n_rows, int head_dim,
                     const AttentionState& total) noexcept {
  lanes::merge_attention<Lanes>(part, n_rows, head_dim, total);
}

void finish_attention(const AttentionState& state, const AttentionTile& tile, float* out) noexcept {
  lanes::finish_attention<Lanes>(state, tile, out);
}

}  // namespace lapidary::avx2
