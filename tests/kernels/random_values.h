// Reproducible random inputs for the kernel tests, and a double-precision naive product to hold
// against them. Deliberately written without anything from kernels/.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "formats/dtype.h"
#include "formats/packed_matrix.h"

namespace lapidary {

inline std::vector<float> random_floats(size_t n, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> out(n);
  for (float& value : out) value = normal(engine);
  return out;
}

// A matrix in memory with the weights it stands for. Packed ones are made through pack_panel, so
// the kernels' decoders are checked against formats/ and not against themselves.
struct RandomMatrix {
  MatrixView view;
  int64_t width;                // k, or padded k of packed codes
  std::vector<double> weights;  // [rows, width], as stored: rotated when the view is

  RandomMatrix(Code code, int64_t rows, int64_t k, uint32_t seed,
               ScaleType scale_type = ScaleType::kF16)
      : width(traits(code).is_float ? k : (k + 63) / 64 * 64) {
    view.code = code;
    view.rows = rows;
    view.k = k;
    view.rotated = !traits(code).is_float && code != Code::kW4x && code != Code::kW8x;
    view.scale_type = scale_type;
    weights.resize(static_cast<size_t>(rows * width));
    if (traits(code).is_float)
      fill_floats(seed);
    else
      fill_packed(seed);
  }

  double weight(int64_t row, int64_t k) const {
    return weights[static_cast<size_t>(row * width + k)];
  }

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::vector<Line> codes_;
  std::vector<uint16_t> meta_;

  uint8_t* allocate_codes(int64_t bytes) {
    codes_.resize(static_cast<size_t>(bytes + 63) / 64);
    view.codes = codes_[0].bytes;
    return codes_[0].bytes;
  }

  void fill_floats(uint32_t seed) {
    const std::vector<float> values = random_floats(weights.size(), seed, 0.05f);
    const int bytes = traits(view.code).bits / 8;
    uint8_t* out = allocate_codes(static_cast<int64_t>(weights.size()) * bytes);
    for (size_t i = 0; i < weights.size(); ++i) {
      float value = values[i];
      uint16_t half = 0;
      if (view.code == Code::kF16) value = f16_to_float(half = float_to_f16(value));
      if (view.code == Code::kBF16) value = bf16_to_float(half = float_to_bf16(value));
      if (bytes == 4) std::memcpy(out + 4 * i, &value, 4);
      if (bytes == 2) std::memcpy(out + 2 * i, &half, 2);
      weights[i] = value;
    }
  }

  // Every index and multiplier is equally likely, -128 at 8 bits included. k beyond the logical
  // width is filled too: the inputs there are zero by contract, whatever the weights are.
  void fill_packed(uint32_t seed) {
    const PackedGeometry g = packed_geometry(view.code, view.rows, view.k);
    const CodeTraits& t = traits(view.code);
    uint8_t* codes = allocate_codes(g.code_bytes);
    meta_.resize(static_cast<size_t>(g.meta_bytes) / 2);
    auto* meta = reinterpret_cast<uint8_t*>(meta_.data());
    view.meta = meta;
    std::mt19937 engine(seed);
    for (int64_t panel = 0; panel < g.n_panels; ++panel) {
      PanelIntegers p(g);
      for (uint8_t& index : p.indices) index = static_cast<uint8_t>(engine() % (1u << t.bits));
      for (int8_t& multiplier : p.multipliers)
        multiplier = static_cast<int8_t>(
            static_cast<int>(engine() % static_cast<uint32_t>(2 * t.max_multiplier + 1)) -
            t.max_multiplier);
      for (uint16_t& scale : p.scales)
        scale = float_to_scale(view.scale_type, 1e-3f * static_cast<float>(1 + engine() % 100));
      pack_panel(g, p, {codes + panel * g.panel_code_bytes, size_t(g.panel_code_bytes)},
                 {meta + panel * g.panel_meta_bytes, size_t(g.panel_meta_bytes)});
      record_weights(g, p, panel);
    }
  }

  void record_weights(const PackedGeometry& g, const PanelIntegers& p, int64_t panel) {
    const CodeTraits& t = traits(view.code);
    const std::vector<int8_t> integers = panel_weights(g, p);
    for (int64_t row = 0; row < kPanelRows && panel * kPanelRows + row < view.rows; ++row)
      for (int64_t k = 0; k < width; ++k) {
        double w = integers[size_t(row * g.padded_k + k)];
        w *= scale_to_float(view.scale_type,
                            p.scales[size_t(row * g.n_scale_blocks + k / t.scale_k)]);
        weights[size_t((panel * kPanelRows + row) * width + k)] = w;
      }
  }
};

}  // namespace lapidary
