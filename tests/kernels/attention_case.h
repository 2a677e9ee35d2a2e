// Queries, keys and values for the attention tests: in plain floats to compute with in double, and
// in memory as pages.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "formats/dtype.h"
#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {

// The keys that a token sees, in positions of the cache.
struct Span {
  int64_t begin, end;
};

// One K/V head of n_pages pages, and queries of some tokens.
struct Case {
  int group, head_dim;
  std::vector<Span> tokens;
  KvCode key_code = KvCode::kF32, value_code = KvCode::kF32;
  int64_t stride;
  std::vector<float> q, keys, values;  // [tokens, group, head_dim], [n_keys, head_dim]

  Case(int group, int head_dim, std::vector<Span> visible, KvCode key_code = KvCode::kF32,
       KvCode value_code = KvCode::kF32, float spread = 0.3f)
      : group(group),
        head_dim(head_dim),
        tokens(std::move(visible)),
        key_code(key_code),
        value_code(value_code),
        stride(head_dim) {
    q = random_floats(tokens.size() * size_t(group * head_dim), 1, spread);
    keys = random_floats(size_t(n_pages() * kPageTokens * head_dim), 2);
    values = random_floats(keys.size(), 3);
    if (key_code == KvCode::kBF16)
      for (float& value : keys) value = bf16_to_float(float_to_bf16(value));
    if (value_code == KvCode::kBF16)
      for (float& value : values) value = bf16_to_float(float_to_bf16(value));
  }
  int64_t n_pages() const {
    int64_t end = 0;
    for (const Span& span : tokens) end = std::max(end, span.end);
    return (end + kPageTokens - 1) / kPageTokens;
  }
  int64_t n_rows() const { return int64_t(tokens.size()) * group; }
};

struct State {
  std::vector<float> max, sum, out;
  State(int64_t n_rows, int head_dim)
      : max(size_t(n_rows), -INFINITY), sum(size_t(n_rows)), out(size_t(n_rows * head_dim)) {}
  AttentionState view() { return {max.data(), sum.data(), out.data()}; }
  bool operator==(const State&) const = default;
};

// A side's pages in memory, `stride` elements from token to token.
struct Side {
  KvCode code;
  int64_t stride;
  std::vector<float> floats;
  std::vector<uint16_t> brains;
  Side(KvCode code, int64_t stride, const std::vector<float>& values, int head_dim)
      : code(code), stride(stride) {
    const size_t n = values.size() / size_t(head_dim);
    floats.assign(n * size_t(stride), std::numeric_limits<float>::quiet_NaN());
    for (size_t t = 0; t < n; ++t)
      std::copy_n(values.begin() + int64_t(t) * head_dim, head_dim,
                  floats.begin() + int64_t(t) * stride);
    for (const float value : floats) brains.push_back(float_to_bf16(value));
  }
  KvSide page(int64_t page) const {
    const int64_t at = page * kPageTokens * stride;
    if (code == KvCode::kBF16) return {code, brains.data() + at, stride};
    return {code, floats.data() + at, stride};
  }
};

}  // namespace lapidary
