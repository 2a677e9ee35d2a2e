// Random tensors and packed matrices, and how far two tensors are apart.
#pragma once

#include <ATen/ATen.h>

#include <cstring>

#include "finetune/frozen_weights.h"
#include "formats/packed_matrix.h"
#include "runtime/verify/random.h"

namespace lapidary {

inline at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed) {
  at::Tensor t = at::empty(shape, at::kFloat);
  SplitMix64 random(seed);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data_ptr<float>()[i] = static_cast<float>(2 * random.uniform() - 1);
  return t;
}

inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// Float32 sums in another order.
inline constexpr double kRounding = 1e-5;

// A packed matrix of random integers, and the bytes behind it.
struct PackedBytes {
  PackedBytes(Code code, int64_t rows, int64_t k, bool rotated) {
    const PackedGeometry g = packed_geometry(code, rows, k);
    bytes.resize(static_cast<size_t>(g.code_bytes + g.meta_bytes + 64));
    uint8_t* start = bytes.data();
    start += (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64;  // views want aligned codes
    SplitMix64 random(5);
    for (int64_t panel = 0; panel < g.n_panels; ++panel) {
      PanelIntegers in(g);
      for (auto& index : in.indices)
        index = static_cast<uint8_t>(random.below(uint64_t{1} << traits(code).bits));
      for (auto& m : in.multipliers)
        m = static_cast<int8_t>(random.between(1, traits(code).max_multiplier));
      for (auto& s : in.scales) s = float_to_scale(ScaleType::kF16, 0.001f);
      pack_panel(g, in,
                 {start + panel * g.panel_code_bytes, static_cast<size_t>(g.panel_code_bytes)},
                 {start + g.code_bytes + panel * g.panel_meta_bytes,
                  static_cast<size_t>(g.panel_meta_bytes)});
    }
    view = {code, rows, k, rotated, ScaleType::kF16, start, start + g.code_bytes};
  }
  std::vector<uint8_t> bytes;
  MatrixView view;
};

inline at::Tensor dense(FrozenWeights& weights, const MatrixView& w) {
  at::Tensor all = at::empty({w.rows, w.k}, at::kFloat);
  weights.for_rows(w, [&](int64_t first, const at::Tensor& rows) {
    all.narrow(0, first, rows.size(0)).copy_(rows);
  });
  return all;
}

}  // namespace lapidary
