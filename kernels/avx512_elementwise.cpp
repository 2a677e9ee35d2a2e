// kernels/lanes_elementwise.h on sixteen lanes.
#include "kernels/avx512_lanes.h"
#include "kernels/lanes_elementwise.h"

namespace lapidary::avx512 {

void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
              int64_t width, float* out) noexcept {
  lanes::rms_norm<Lanes>(x, w, offset, eps, n_tokens, width, out);
}
void gelu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  lanes::gelu_mul<Lanes>(gate, up, n, out);
}
void silu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  lanes::silu_mul<Lanes>(gate, up, n, out);
}
void add(float* x, const float* y, float factor, int64_t n) noexcept {
  lanes::add<Lanes>(x, y, factor, n);
}
void softcap(float* x, int64_t n, float cap) noexcept { lanes::softcap<Lanes>(x, n, cap); }

}  // namespace lapidary::avx512
