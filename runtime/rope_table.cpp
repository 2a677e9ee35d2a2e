// The three frequency rules, and rows of angles.
#include "runtime/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lapidary {
namespace {

// Llama 3.1: wavelengths beyond the original context shrink by `factor`, short ones stay, the band
// between is blended linearly in (original context / wavelength).
double llama3_scaled(const RopeConfig& rope, double frequency) {
  const double turns =
      static_cast<double>(rope.original_context) * frequency / (2.0 * std::numbers::pi);
  if (turns > rope.high_freq_factor) return frequency;
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  const double smooth =
      (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& rope, int head_dim) {
  const int half = head_dim / 2;
  const int n_rotated = rope.kind == RopeKind::kProportional
                            ? static_cast<int>(rope.rotated_fraction * head_dim / 2)
                            : half;
  std::vector<double> frequencies(half, 0.0);
  for (int i = 0; i < std::min(n_rotated, half); ++i) {
    const double base = std::pow(rope.theta, -2.0 * i / head_dim);
    frequencies[i] =
        rope.kind == RopeKind::kLlama3 ? llama3_scaled(rope, base) : base / rope.factor;
  }
  return frequencies;
}

RopeTable::RopeTable(const ModelConfig& config) {
  for (const LayerConfig& layer : config.layers) {
    const auto same = [&](const Kind& kind) {
      return kind.rope == layer.rope && kind.head_dim == layer.head_dim;
    };
    auto kind = std::find_if(kinds_.begin(), kinds_.end(), same);
    if (kind == kinds_.end()) {
      kinds_.push_back(
          {layer.rope, layer.head_dim, width_, rope_frequencies(layer.rope, layer.head_dim)});
      width_ += layer.head_dim;
      kind = kinds_.end() - 1;
    }
    offset_.push_back(kind->offset);
    half_.push_back(layer.head_dim / 2);
  }
}

void RopeTable::fill(int64_t position, float* row) const {
  for (const Kind& kind : kinds_) {
    const size_t half = kind.frequencies.size();
    float* cosines = row + kind.offset;
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * kind.frequencies[i];
      cosines[i] = static_cast<float>(std::cos(angle));
      cosines[half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace lapidary
