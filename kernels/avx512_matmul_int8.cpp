// kernels/vnni_matmul.h on 64-byte vectors.
#include "kernels/avx512.h"
#include "kernels/avx512_panel.h"
#include "kernels/vnni_matmul.h"

namespace lapidary::avx512 {

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  vnni::matmul_int8<Vector>(w, first_panel, n_panels, x, n_tokens, y, ldy);
}

}  // namespace lapidary::avx512
