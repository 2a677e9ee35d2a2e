// kernels/lanes_matmul_float.h on sixteen lanes.
#include "kernels/avx512_lanes.h"
#include "kernels/lanes_matmul_float.h"

namespace lapidary::avx512 {

void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                  int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  lanes::matmul_float<Lanes>(w, first_panel, n_panels, x, ldx, n_tokens, y, ldy);
}

}  // namespace lapidary::avx512
