// Norms, rotary embedding and activations, scalar. Transcendental functions in double, rounded
// once.
#include <cmath>

#include "formats/dtype.h"
#include "kernels/reference.h"

namespace lapidary::reference {

void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
              int64_t width, float* out) noexcept {
  for (int64_t t = 0; t < n_tokens; ++t, x += width, out += width) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += double{x[i]} * x[i];
    const auto inverse = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(width) + eps));
    for (int64_t i = 0; i < width; ++i) out[i] = x[i] * inverse * (w ? w[i] + offset : 1.0f);
  }
}

void rope(float* x, const float* cos, const float* sin, int n_heads, int head_dim) noexcept {
  const int half = head_dim / 2;
  for (int head = 0; head < n_heads; ++head, x += head_dim)
    for (int i = 0; i < half; ++i) {
      const float low = x[i], high = x[i + half];
      x[i] = low * cos[i] - high * sin[i];
      x[i + half] = high * cos[i] + low * sin[i];
    }
}

void gelu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  const double root = std::sqrt(2 / M_PI);  // the tanh form of GELU
  for (int64_t i = 0; i < n; ++i) {
    const double x = gate[i];
    const double gelu = 0.5 * x * (1 + std::tanh(root * (x + 0.044715 * x * x * x)));
    out[i] = static_cast<float>(gelu) * up[i];
  }
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const double x = gate[i];
    out[i] = static_cast<float>(x / (1 + std::exp(-x))) * up[i];
  }
}

void add(float* x, const float* y, float factor, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) x[i] = (x[i] + y[i]) * factor;
}

void softcap(float* x, int64_t n, float cap) noexcept {
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(cap * std::tanh(double{x[i]} / cap));
}

void float_to_bf16(const float* x, int64_t n, uint16_t* out) noexcept {
  for (int64_t i = 0; i < n; ++i) out[i] = lapidary::float_to_bf16(x[i]);
}

}  // namespace lapidary::reference
