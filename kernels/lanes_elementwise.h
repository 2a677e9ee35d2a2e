// Norm, gated activations and soft-cap for vectors of 8 and 16 lanes (V as in
// lanes_matmul_float.h). Tails go through zero-filled vectors, so that an element's value never
// depends on its place in a vector.
#pragma once

#include <cstdint>

namespace lapidary::lanes {

template <class V>
static inline typename V::Floats sigmoid(typename V::Floats x) {
  const auto one = V::set(1.0f);
  return V::divide(one, V::add(one, V::exp(V::negate(x))));
}

// 0.5 x (1 + tanh z) = x sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3): nothing overflows to
// NaN.
template <class V>
static inline typename V::Floats gelu(typename V::Floats x) {
  const auto cubic = V::multiply_add(V::multiply(x, x), V::set(0.044715f), V::set(1.0f));
  const auto twice_z = V::multiply(V::multiply(x, cubic), V::set(1.5957691216f));  // 2 sqrt(2 / pi)
  return V::multiply(x, sigmoid<V>(twice_z));
}

template <class V, class Function>
static inline void map(const float* a, const float* b, int64_t n, float* out, Function f) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::store(out + i, f(V::load(a + i), V::load(b + i)));
  if (i < n)
    V::store_partial(out + i, n - i,
                     f(V::load_partial(a + i, n - i), V::load_partial(b + i, n - i)));
}

// kernels.h has the contracts of these five.
template <class V>
static void rms_norm(const float* x, const float* w, float offset, float eps, int64_t n_tokens,
                     int64_t width, float* out) {
  const auto shift = V::set(offset);
  for (int64_t t = 0; t < n_tokens; ++t, x += width, out += width) {
    auto sum = V::set(0.0f);
    int64_t i = 0;
    for (; i + V::kLanes <= width; i += V::kLanes)
      sum = V::multiply_add(V::load(x + i), V::load(x + i), sum);
    if (i < width) {
      const auto tail = V::load_partial(x + i, width - i);
      sum = V::multiply_add(tail, tail, sum);
    }
    const float mean = V::fold(sum) / static_cast<float>(width);
    const auto inverse = V::set(1.0f / __builtin_sqrtf(mean + eps));
    map<V>(x, w ? w : x, width, out, [&](auto value, auto weight) {
      const auto normed = V::multiply(value, inverse);
      return w ? V::multiply(normed, V::add(weight, shift)) : normed;
    });
  }
}

template <class V>
static void gelu_mul(const float* gate, const float* up, int64_t n, float* out) {
  map<V>(gate, up, n, out, [](auto g, auto u) { return V::multiply(gelu<V>(g), u); });
}

template <class V>
static void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  map<V>(gate, up, n, out,
         [](auto g, auto u) { return V::multiply(V::multiply(g, sigmoid<V>(g)), u); });
}

template <class V>
static void add(float* x, const float* y, float factor, int64_t n) {
  const auto by = V::set(factor);
  map<V>(x, y, n, x, [&](auto a, auto b) { return V::multiply(V::add(a, b), by); });
}

template <class V>
static void softcap(float* x, int64_t n, float cap) {
  const auto scale = V::set(cap);
  map<V>(x, x, n, x,
         [&](auto v, auto) { return V::multiply(scale, V::tanh(V::divide(v, scale))); });
}

}  // namespace lapidary::lanes
