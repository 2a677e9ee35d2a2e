// kernels/lanes_matmul_float.h on eight lanes.
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_matmul_float.h"

namespace lapidary::avx2 {

void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                  int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  lanes::matmul_float<Lanes>(w, first_panel, n_panels, x, ldx, n_tokens, y, ldy);
}

}  // namespace lapidary::avx2
