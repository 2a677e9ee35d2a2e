// What V-only layers need beside their pages: the weights and angles that turn V into K.
//
// K = RoPE(w_k * V): attention rebuilds the rotary dims of K from V, the weight and the token's
// angle, that of its page's first position plus one of 64 steps; for the other dims the weight goes
// to the query instead (kernels/kv_pages.h).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "runtime/model.h"

namespace lapidary {

struct VOnlyLayer {
  int n_rotary = 0;                   // 0: this layer's V cannot stand alone
  std::vector<float> w_k;             // [head_dim], k_norm's weights, offset included
  std::vector<float> weights;         // [n_rotary], see RotaryKeys
  std::vector<float> cosines, sines;  // [n_rotary / 2, 64]
  RotaryKeys keys() const { return {n_rotary, weights.data(), cosines.data(), sines.data()}; }
};
// One entry per layer.
std::vector<VOnlyLayer> v_only_layers(const Model& model);

// Per page the cosines [n_rotary / 2], then the sines, of its first position: [n_pages, n_rotary].
std::vector<float> page_angles(const LayerConfig& layer, int64_t n_pages);

}  // namespace lapidary
