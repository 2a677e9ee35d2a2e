// Scales by expected error, symbols by search, scales once more by least squares.
#include "quantize/trellis_rows.h"

#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "formats/error.h"
#include "kernels/kernels.h"
#include "kernels/pack_lines.h"
#include "kernels/trellis_search.h"

namespace lapidary {
namespace {

constexpr int kExpectedSizes = 160;  // sizes 0 to 159 of a weight, in levels' units
// Deviations of the levels over that of the weights that are tried; Gaussian rows have their best
// at 1.1 (3 bits) to 1.3 (6 bits).
constexpr float kRatios[] = {0.95f, 1.0f,  1.05f, 1.1f, 1.15f, 1.2f,
                             1.27f, 1.35f, 1.45f, 1.6f, 1.8f};

// What a weight costs beyond a share of its square, which no scale changes: a floor, and what
// separates the weight from the nearest level of all. The floors make the best scale of Gaussian
// rows the best by this measure too.
std::vector<float> expected_errors(int bits) {
  const float floor = bits == 3 ? 0.8f : bits == 4 ? 0.47f : bits == 5 ? 0.22f : 0.09f;
  std::vector<float> expected(kExpectedSizes);
  for (int size = 0; size < kExpectedSizes; ++size) {
    float gap = 127;
    for (const int level : kTrellisLevels)
      gap = std::min(gap, static_cast<float>(std::abs(size - level)));
    expected[size] = floor + (size < 64 ? 0.0f : gap * gap);
  }
  return expected;
}

struct Fit {
  float along = 0, norm = 0;  // x v and v^2
  // The scale that fits levels v best; `scale` when there is none.
  float refitted(float scale) const {
    if (!(norm > 0)) return scale;
    const float best = f16_to_float(float_to_f16(along / norm));
    return best > 0 && std::isfinite(best) ? best : scale;
  }
};

}  // namespace

TrellisSearcher::TrellisSearcher(Code code)
    : bits_(traits(code).bits),
      expected_(expected_errors(bits_)),
      scratch_(static_cast<size_t>(trellis_scratch_floats(bits_, kTrellisSteps))) {
  LAPIDARY_CHECK(traits(code).is_trellis);
}

float TrellisSearcher::scale_for(const float* x, int64_t stride, int n) const {
  float square = 0;
  for (int i = 0; i < n; ++i) square += x[i * stride] * x[i * stride];
  const float deviation = std::sqrt(square / static_cast<float>(n));
  float best = 0, least = 0;
  for (const float ratio : kRatios) {
    const float scale =
        f16_to_float(float_to_f16(std::min(deviation * ratio / kTrellisDeviation, kLargestF16)));
    if (scale == 0) continue;
    const float inverse = 1 / scale;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float size = std::fabs(x[i * stride]) * inverse;
      const float over = size - 127;
      error +=
          size < kExpectedSizes - 1 ? expected_[static_cast<size_t>(size + 0.5f)] : over * over;
    }
    error *= scale * scale;
    if (best > 0 && !(error < least)) continue;
    best = scale;
    least = error;
  }
  return best;
}

void TrellisSearcher::round_block(const float* x, int64_t row_stride, int64_t k_stride,
                                  const float* scales, const float* root_importance,
                                  uint8_t* symbols, int8_t* levels) {
  alignas(64) float targets[kTrellisSteps], weights[kTrellisSteps];
  const float largest = *std::max_element(scales, scales + kPanelRows);
  const float unit = largest > 0 ? 1 / largest : 0.0f;
  for (int row = 0; row < kPanelRows; ++row) {
    const float inverse = scales[row] > 0 ? 1 / scales[row] : 0.0f;
    for (int k = 0; k < kTrellisBlockK; ++k) {
      targets[line_index(row, k)] = x[row * row_stride + k * k_stride] * inverse;
      weights[line_index(row, k)] = scales[row] * unit * root_importance[k];
    }
  }
  kernels().search_trellis(bits_, kTrellisSteps, targets, weights, scratch_.data(), symbols);
  trellis_levels(bits_, {symbols, kTrellisSteps}, {levels, kTrellisSteps});
}

void TrellisSearcher::round_ring(const float* x, int n, float scale, uint8_t* symbols,
                                 int8_t* levels) {
  alignas(64) float targets[kTrellisMostSteps], weights[kTrellisMostSteps];
  const float inverse = scale > 0 ? 1 / scale : 0.0f;
  for (int i = 0; i < n; ++i) targets[i] = x[i] * inverse, weights[i] = scale > 0 ? 1.0f : 0.0f;
  const size_t floats = static_cast<size_t>(trellis_scratch_floats(bits_, std::max(n, 64)));
  if (scratch_.size() < floats) scratch_.resize(floats);
  kernels().search_trellis(bits_, n, targets, weights, scratch_.data(), symbols);
  const size_t steps = static_cast<size_t>(n);
  trellis_levels(bits_, {symbols, steps}, {levels, steps});
}

void round_trellis_rows(TrellisSearcher& searcher, const float* x, int64_t ldx, int n, int used,
                        RoundedRows* out) {
  alignas(64) int8_t levels[kPanelRows * kMostBlockK];  // as the symbols
  float scales[kPanelRows];
  for (int row = 0; row < kPanelRows; ++row)
    scales[row] = searcher.scale_for(x + row * ldx, 1, used);
  for (int k = 0; k < n; k += kTrellisBlockK) {
    float importance[kTrellisBlockK];
    for (int i = 0; i < kTrellisBlockK; ++i) importance[i] = k + i < used ? 1.0f : 0.0f;
    searcher.round_block(x + k, ldx, 1, scales, importance, out->indices + k * kPanelRows,
                         levels + k * kPanelRows);
  }
  for (int row = 0; row < kPanelRows; ++row) {
    const float* values = x + row * ldx;
    const auto level = [&](int k) { return static_cast<float>(levels[line_index(row, k)]); };
    Fit fit;
    for (int k = 0; k < used; ++k) {
      fit.along += values[k] * level(k);
      fit.norm += level(k) * level(k);
    }
    const float scale = scales[row] > 0 ? fit.refitted(scales[row]) : 0.0f;
    out->scales[row] = float_to_f16(scale);
    out->errors[row] = out->energies[row] = 0;
    for (int k = 0; k < used; ++k) {
      const float error = values[k] - scale * level(k);
      out->errors[row] += error * error;
      out->energies[row] += values[k] * values[k];
    }
  }
}

void round_trellis_records(TrellisSearcher& searcher, const float* x, int64_t ldx, int n,
                           RoundedRows* out) {
  uint8_t symbols[kTrellisMostSteps];
  int8_t levels[kTrellisMostSteps];
  for (int row = 0; row < kPanelRows; ++row) {
    const float* values = x + row * ldx;
    float scale = searcher.scale_for(values, 1, n);
    searcher.round_ring(values, n, scale, symbols, levels);
    Fit fit;
    for (int k = 0; k < n; ++k) {
      fit.along += values[k] * static_cast<float>(levels[k]);
      fit.norm += static_cast<float>(levels[k] * levels[k]);
      out->indices[line_index(row, k)] = symbols[k];
    }
    scale = scale > 0 ? fit.refitted(scale) : 0.0f;
    out->scales[row] = float_to_f16(scale);
    out->errors[row] = out->energies[row] = 0;
    for (int k = 0; k < n; ++k) {
      const float error = values[k] - scale * static_cast<float>(levels[k]);
      out->errors[row] += error * error;
      out->energies[row] += values[k] * values[k];
    }
  }
}

}  // namespace lapidary
