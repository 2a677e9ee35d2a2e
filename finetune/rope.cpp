// Rotation angles for the three kinds of RoPE.
#include "finetune/rope.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace lapidary {
namespace {

// Rotation speed of pair i in radians per position.
double inverse_frequency(const RopeConfig& rope, int head_dim, int i) {
  const double plain = std::pow(rope.theta, -2.0 * i / head_dim);
  switch (rope.kind) {
    case RopeKind::kDefault:
      return plain / rope.factor;
    case RopeKind::kProportional:
      return i < static_cast<int>(rope.rotated_fraction * head_dim / 2) ? plain / rope.factor : 0.0;
    case RopeKind::kLlama3:
      break;
  }
  const double turns = static_cast<double>(rope.original_context) * plain / (2 * std::numbers::pi);
  if (turns > rope.high_freq_factor) return plain;
  if (turns < rope.low_freq_factor) return plain / rope.factor;
  const double blend =
      (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - blend) * plain / rope.factor + blend * plain;
}

}  // namespace

RopeTables rope_tables(const RopeConfig& rope, int head_dim,
                       const std::vector<int64_t>& positions) {
  const auto n_tokens = static_cast<int64_t>(positions.size());
  const int64_t pairs = head_dim / 2;
  RopeTables tables{at::empty({n_tokens, 1, pairs}, at::kFloat),
                    at::empty({n_tokens, 1, pairs}, at::kFloat)};
  float* cos = tables.cos.data_ptr<float>();
  float* sin = tables.sin.data_ptr<float>();
  for (int64_t i = 0; i < pairs; ++i) {
    // transformers keeps speeds and angles in float32; so does the reference this is held against.
    const auto speed = static_cast<float>(inverse_frequency(rope, head_dim, static_cast<int>(i)));
    for (int64_t t = 0; t < n_tokens; ++t) {
      const float angle = speed * static_cast<float>(positions[static_cast<size_t>(t)]);
      cos[t * pairs + i] = std::cos(angle);
      sin[t * pairs + i] = std::sin(angle);
    }
  }
  return tables;
}

at::Tensor apply_rope(const at::Tensor& x, const RopeTables& tables) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor low = x.narrow(2, 0, half), high = x.narrow(2, half, half);
  return at::cat({low * tables.cos - high * tables.sin, high * tables.cos + low * tables.sin}, 2);
}

}  // namespace lapidary
