// What happens to activations before a quantized matmul: rotation, then int8.
//
// The order of the butterflies (distance 1, 2, 4, ..., 32, then times 1/8) defines the floats:
// every other file must give the same bits. 1/8 is a power of two, so only the additions round.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/reference.h"
#include "kernels/reference_rotation.h"

namespace lapidary::reference {

void rotate(float* x, int64_t n_tokens, int64_t padded_k) noexcept {
  for (float* block = x; block < x + n_tokens * padded_k; block += kTileK) {
    apply_rotation_signs(block);
    walsh_hadamard_64(block);
  }
}

namespace {

// One scale block. A block that holds an infinity or NaN cannot be represented: its scale says so
// (infinity or NaN, which then reaches every output of the token) and its integers are zero.
float quantize_block(const float* x, int64_t n, int8_t* q) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = std::fabs(x[i]);
    if (magnitude > largest || std::isnan(magnitude)) largest = magnitude;
    if (std::isnan(largest)) break;
  }
  const float scale = largest / 127.0f;
  const bool representable = scale > 0 && std::isfinite(scale);
  for (int64_t i = 0; i < n; ++i) {
    // A subnormal scale is coarse enough to push a ratio past 127.
    const float ratio = representable ? std::nearbyint(x[i] / scale) : 0.0f;
    q[i] = static_cast<int8_t>(ratio > 127 ? 127 : ratio < -127 ? -127 : ratio);
  }
  return scale;
}

}  // namespace

void quantize(const float* x, int64_t n_tokens, int64_t padded_k, int64_t scale_k, int8_t* q,
              float* scales, int32_t* sums) noexcept {
  for (int64_t t = 0; t < n_tokens; ++t)
    for (int64_t k = 0; k < padded_k; k += scale_k) {
      const int64_t n = std::min(scale_k, padded_k - k);
      *scales++ = quantize_block(x + t * padded_k + k, n, q + t * padded_k + k);
    }
  for (int64_t i = 0; i < n_tokens * padded_k; i += kGroupK)
    *sums++ = std::accumulate(q + i, q + i + kGroupK, int32_t{0});
}

}  // namespace lapidary::reference
