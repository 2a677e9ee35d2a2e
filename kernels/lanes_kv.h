// The KV codes' arithmetic on vectors: the reference's operations on each element and its order in
// each sum, so the reference's bits. V as in lanes_matmul_float.h, with
//   V::flip(v, bits)        changes the signs of the lanes whose bit is set
//   V::butterflies(v)       Walsh-Hadamard butterflies at distances below V::kLanes
//   V::if_greater(a, b, v)  v where a > b, else 0;  V::choose_greater(a, b, v, w)  v there, else w
//   V::fold_halves(sums)    16 lanes by halves;  V::round(v)  half to even
//   V::store_bytes(p, v)    whole numbers as int8
#pragma once

#include "formats/dtype.h"
#include "formats/kv_page.h"
#include "kernels/kv_rotation.h"
#include "kernels/reference.h"

namespace lapidary::lanes {

constexpr int kSumLanes = 16;  // of the sums that every table shares

template <class V>
static void apply_kv_signs(const uint64_t* negative, float* x, int n) {
  int i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes)
    V::store(x + i, V::flip(V::load(x + i), static_cast<uint32_t>(negative[i / 64] >> (i % 64))));
  for (; i < n; ++i)
    if (negative[i / 64] >> (i % 64) & 1) x[i] = -x[i];
}

template <class V>
static void walsh_hadamard(float* x, int n) {
  for (int i = 0; i < n; i += V::kLanes) V::store(x + i, V::butterflies(V::load(x + i)));
  for (int distance = V::kLanes; distance < n; distance *= 2)
    for (int first = 0; first < n; first += 2 * distance)
      for (int i = first; i < first + distance; i += V::kLanes) {
        const auto a = V::load(x + i), b = V::load(x + i + distance);
        V::store(x + i, V::add(a, b));
        V::store(x + i + distance, V::subtract(a, b));
      }
  const auto factor = V::set(kv_rotation_factor(n));
  for (int i = 0; i < n; i += V::kLanes) V::store(x + i, V::multiply(V::load(x + i), factor));
}

// kernels.h, kv_rotate and kv_unrotate.
template <class V>
static void kv_rotate(float* x, int64_t n_vectors, int64_t stride, int n) {
  const int power = kv_rotation_power(n);
  if (power < V::kLanes) return reference::kv_rotate(x, n_vectors, stride, n);
  for (int64_t v = 0; v < n_vectors; ++v, x += stride) {
    apply_kv_signs<V>(kKvSigns.negative[0], x, n);
    walsh_hadamard<V>(x, power);
    if (power == n) continue;
    apply_kv_signs<V>(kKvSigns.negative[1], x + n - power, power);
    walsh_hadamard<V>(x + n - power, power);
  }
}
template <class V>
static void kv_unrotate(float* x, int64_t n_vectors, int64_t stride, int n) {
  const int power = kv_rotation_power(n);
  if (power < V::kLanes) return reference::kv_unrotate(x, n_vectors, stride, n);
  for (int64_t v = 0; v < n_vectors; ++v, x += stride) {
    if (power < n) {
      walsh_hadamard<V>(x + n - power, power);
      apply_kv_signs<V>(kKvSigns.negative[1], x + n - power, power);
    }
    walsh_hadamard<V>(x, power);
    apply_kv_signs<V>(kKvSigns.negative[0], x, n);
  }
}

// Sum of x * y, n a multiple of 16.
template <class V>
static float sum_products(const float* x, const float* y, int n) {
  constexpr int kVectors = kSumLanes / V::kLanes;
  typename V::Floats sum[kVectors] = {};
  for (int i = 0; i < n; i += kSumLanes)
    for (int j = 0; j < kVectors; ++j)
      sum[j] = V::add(sum[j],
                      V::multiply(V::load(x + i + j * V::kLanes), V::load(y + i + j * V::kLanes)));
  return V::fold_halves(sum);
}

// Nearest of ascending levels: their index, and the level itself in `chosen`.
template <class V>
static void nearest_levels(const int8_t* levels, int n_levels, const float* x, float scale, int n,
                           uint8_t* indices, float* chosen) {
  for (int i = 0; i < n; i += V::kLanes) {
    const auto y = V::multiply(V::load(x + i), V::set(scale));
    auto index = V::set(0.0f), level = V::set(levels[0]);
    for (int j = 0; j + 1 < n_levels; ++j) {
      const auto middle = V::set(0.5f * static_cast<float>(levels[j] + levels[j + 1]));
      index = V::add(index, V::if_greater(y, middle, V::set(1.0f)));
      level = V::add(
          level, V::if_greater(y, middle, V::set(static_cast<float>(levels[j + 1] - levels[j]))));
    }
    V::store_bytes(reinterpret_cast<int8_t*>(indices + i), index);
    V::store(chosen + i, level);
  }
}

// Nearest of 64 points for the pairs (x[i], x[i + 16]) of each 32.
template <class V>
static void nearest_pairs(const int8_t* pairs, const float* x, float scale, int n, uint8_t* indices,
                          float* chosen) {
  float a[64], b[64], half_square[64];
  for (int j = 0; j < 64; ++j) {
    a[j] = pairs[2 * j];
    b[j] = pairs[2 * j + 1];
    half_square[j] = 0.5f * (a[j] * a[j] + b[j] * b[j]);
  }
  for (int i = 0; i < n; i += V::kLanes) {
    if (i % 32 >= 16) continue;
    const auto y_a = V::multiply(V::load(x + i), V::set(scale));
    const auto y_b = V::multiply(V::load(x + i + 16), V::set(scale));
    auto best = V::set(-__builtin_inff()), index = V::set(0.0f);
    for (int j = 0; j < 64; ++j) {
      const auto score =
          V::subtract(V::add(V::multiply(V::set(a[j]), y_a), V::multiply(V::set(b[j]), y_b)),
                      V::set(half_square[j]));
      index = V::choose_greater(score, best, V::set(static_cast<float>(j)), index);
      best = V::max(score, best);
    }
    V::store_bytes(reinterpret_cast<int8_t*>(indices + i), index);
    for (int lane = i; lane < i + V::kLanes; ++lane) {
      indices[lane + 16] = indices[lane];
      chosen[lane] = a[indices[lane]];
      chosen[lane + 16] = b[indices[lane]];
    }
  }
}

// kernels.h, choose_kv_levels.
template <class V>
static KvSums choose_kv_levels(KvCode code, const float* x, int n, int n_dims, uint8_t* indices) {
  const float square = sum_products<V>(x, x, n);
  if (!(square > 0)) {
    std::memset(indices, 0, static_cast<size_t>(n));
    return {square, 0};
  }
  alignas(64) float chosen[1024 + kKvPadDims];
  const int8_t* levels = kv_levels(code);
  const float scale = kv_deviation(code) * __builtin_sqrtf(static_cast<float>(n_dims) / square);
  if (code == KvCode::k3Bit)
    nearest_pairs<V>(levels, x, scale, n, indices, chosen);
  else
    nearest_levels<V>(levels, 1 << kv_bits(code), x, scale, n, indices, chosen);
  return {square, sum_products<V>(x, chosen, n)};
}

template <class V>
static typename V::Floats clamped(typename V::Floats v) {
  const auto limit = V::set(-127.0f);
  return V::negate(V::max(V::negate(V::max(v, limit)), limit));
}

template <class V>
static float absmax(const float* x, int n) {
  auto largest = V::set(0.0f);
  for (int i = 0; i < n; i += V::kLanes) {
    const auto v = V::load(x + i);
    largest = V::max(V::max(v, V::negate(v)), largest);
  }
  return V::fold_max(largest);
}

// kernels.h, quantize_kv.
template <class V>
static uint16_t quantize_kv(const float* x, int n, int8_t* levels) {
  const float wanted = absmax<V>(x, n) * (128.0f / 127.0f);
  const uint16_t bits = float_to_f16(wanted < 65504.0f ? wanted : 65504.0f);
  const float scale = f16_to_float(bits) * kKvScaleUnit;
  if (!(scale > 0)) {
    std::memset(levels, 0, static_cast<size_t>(n));
    return bits;
  }
  for (int i = 0; i < n; i += V::kLanes)
    V::store_bytes(levels + i, clamped<V>(V::round(V::divide(V::load(x + i), V::set(scale)))));
  return bits;
}

// kernels.h, split_query.
template <class V>
static float split_query(const float* q, int n, int8_t* high, int8_t* low) {
  const float scale = absmax<V>(q, n) / 127.0f;
  auto spoiled = V::set(0.0f);  // NaN with any NaN or infinity among q
  for (int i = 0; i < n; i += V::kLanes)
    spoiled = V::multiply_add(V::load(q + i), V::set(0.0f), spoiled);
  if (!(scale > 0) || V::fold(spoiled) != 0) return reference::split_query(q, n, high, low);
  for (int i = 0; i < n; i += V::kLanes) {
    const auto ratio = V::divide(V::load(q + i), V::set(scale));
    const auto whole = clamped<V>(V::round(ratio));
    const auto rest = V::multiply(V::subtract(ratio, whole), V::set(254.0f));
    V::store_bytes(high + i, whole);
    V::store_bytes(low + i, clamped<V>(V::round(rest)));
  }
  return scale;
}

}  // namespace lapidary::lanes
