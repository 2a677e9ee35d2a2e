// The KV codes' arithmetic, scalar: rotation, nearest levels, int8, and the split of a query.
#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "kernels/kv_rotation.h"
#include "kernels/reference.h"

namespace lapidary::reference {
namespace {

constexpr int kSumLanes = 16;

void apply_signs(const uint64_t* negative, float* x, int n) {
  for (int i = 0; i < n; ++i)
    if (negative[i / 64] >> (i % 64) & 1) x[i] = -x[i];
}

void walsh_hadamard(float* x, int n) {
  for (int distance = 1; distance < n; distance *= 2)
    for (int i = 0; i < n; ++i)
      if ((i & distance) == 0) {
        const float a = x[i], b = x[i + distance];
        x[i] = a + b;
        x[i + distance] = a - b;
      }
  const float factor = kv_rotation_factor(n);
  for (int i = 0; i < n; ++i) x[i] *= factor;
}

float fold(float* lanes) {
  for (int half = kSumLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

float sum_squares(const float* x, int n) {
  float lanes[kSumLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i % kSumLanes] += x[i] * x[i];
  return fold(lanes);
}

int nearest_level(const int8_t* levels, int n_levels, float y) {
  int index = 0;
  for (int j = 0; j + 1 < n_levels; ++j) index += y > 0.5f * float(levels[j] + levels[j + 1]);
  return index;
}

// The first of the nearest points: largest a y_a + b y_b - (a^2 + b^2) / 2.
int nearest_pair(const int8_t* pairs, float y_a, float y_b) {
  int best = 0;
  float best_score = -INFINITY;
  for (int j = 0; j < 64; ++j) {
    const float a = pairs[2 * j], b = pairs[2 * j + 1];
    const float score = (a * y_a + b * y_b) - 0.5f * (a * a + b * b);
    if (score > best_score) best_score = score, best = j;
  }
  return best;
}

int8_t rounded_int8(float x) {
  return static_cast<int8_t>(std::clamp(std::nearbyint(x), -127.0f, 127.0f));
}

// NaN if any value is.
float absmax(const float* x, int n) {
  float largest = 0;
  for (int i = 0; i < n; ++i) {
    if (std::isnan(x[i])) return x[i];
    largest = std::max(largest, std::fabs(x[i]));
  }
  return largest;
}

}  // namespace

void kv_rotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept {
  const int power = kv_rotation_power(n);
  for (int64_t v = 0; v < n_vectors; ++v, x += stride) {
    apply_signs(kKvSigns.negative[0], x, n);
    walsh_hadamard(x, power);
    if (power == n) continue;
    apply_signs(kKvSigns.negative[1], x + n - power, power);
    walsh_hadamard(x + n - power, power);
  }
}

void kv_unrotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept {
  const int power = kv_rotation_power(n);
  for (int64_t v = 0; v < n_vectors; ++v, x += stride) {
    if (power < n) {
      walsh_hadamard(x + n - power, power);
      apply_signs(kKvSigns.negative[1], x + n - power, power);
    }
    walsh_hadamard(x, power);
    apply_signs(kKvSigns.negative[0], x, n);
  }
}

KvSums choose_kv_levels(KvCode code, const float* x, int n, int n_dims, uint8_t* indices) noexcept {
  const float square = sum_squares(x, n);
  if (!(square > 0)) {
    std::fill_n(indices, n, uint8_t{0});
    return {square, 0};
  }
  const int8_t* levels = kv_levels(code);
  const float scale = kv_deviation(code) * std::sqrt(float(n_dims) / square);
  float lanes[kSumLanes] = {};
  for (int i = 0; i < n; ++i) {
    int level;
    if (code == KvCode::k3Bit) {
      const int a = i / 32 * 32 + i % 16;
      indices[i] = uint8_t(nearest_pair(levels, x[a] * scale, x[a + 16] * scale));
      level = levels[2 * indices[i] + i / 16 % 2];
    } else {
      indices[i] = uint8_t(nearest_level(levels, 1 << kv_bits(code), x[i] * scale));
      level = levels[indices[i]];
    }
    lanes[i % kSumLanes] += x[i] * float(level);
  }
  return {square, fold(lanes)};
}

uint16_t quantize_kv(const float* x, int n, int8_t* levels) noexcept {
  const uint16_t bits = float_to_f16(std::min(absmax(x, n) * (128.0f / 127.0f), 65504.0f));
  const float scale = f16_to_float(bits) * kKvScaleUnit;
  for (int i = 0; i < n; ++i) levels[i] = scale > 0 ? rounded_int8(x[i] / scale) : int8_t{0};
  return bits;
}

float split_query(const float* q, int n, int8_t* high, int8_t* low) noexcept {
  const float scale = absmax(q, n) / 127.0f;
  if (!(scale > 0 && scale < INFINITY)) {
    std::fill_n(high, n, int8_t{0});
    std::fill_n(low, n, int8_t{0});
    return scale;
  }
  for (int i = 0; i < n; ++i) {
    const float ratio = q[i] / scale;
    high[i] = rounded_int8(ratio);
    low[i] = rounded_int8((ratio - float(high[i])) * 254.0f);
  }
  return scale;
}

}  // namespace lapidary::reference
