// kernels/lanes_matmul_float.h and lanes_outer.h on eight lanes.
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_matmul_float.h"
#include "kernels/lanes_outer.h"

namespace lapidary::avx2 {

void matmul_float(const MatrixView& w, int64_t first_panel, int64_t n_panels, const float* x,
                  int64_t ldx, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  lanes::matmul_float<Lanes>(w, first_panel, n_panels, x, ldx, n_tokens, y, ldy);
}

void add_outer_products(const float* a, const float* b, int64_t n_k, float* c,
                        int64_t ldc) noexcept {
  lanes::add_outer_products<Lanes>(a, b, n_k, c, ldc);
}

}  // namespace lapidary::avx2
