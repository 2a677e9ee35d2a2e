// kernels/vnni_matmul.h on 32-byte vectors.
#include "kernels/avx2_panel.h"
#include "kernels/avx2vnni.h"
#include "kernels/vnni_matmul.h"

namespace lapidary::avx2vnni {
namespace {

struct Vpdpbusd {
  // By hand: GCC 12 copies the sum around the intrinsic each time, which costs a quarter.
  static __m256i dot(__m256i sum, __m256i u8, __m256i s8) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(u8), "x"(s8));
    return sum;
  }
};

}  // namespace

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  vnni::matmul_int8<avx2::PanelVector<Vpdpbusd>>(w, first_panel, n_panels, x, n_tokens, y, ldy);
}

}  // namespace lapidary::avx2vnni
