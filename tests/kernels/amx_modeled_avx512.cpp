// Compiled with the flags of kernels/avx512_*.cpp, which the other tests must not be.
#include "kernels/amx_lines.h"
#include "kernels/amx_matmul.h"
#include "tests/kernels/amx_modeled.h"

namespace lapidary::amx {

bool matmul_int8_on_model(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                          const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) {
  return matmul_int8<ModelTiles, Avx512Lines>(w, first_panel, n_panels, x, n_tokens, y, ldy);
}

}  // namespace lapidary::amx
