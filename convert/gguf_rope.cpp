// Divisors back to the numbers they were made from. llama3's: short wavelengths are kept (1), long
// ones divided by `factor`, and between them 1 / divisor is a straight line in 1 / wavelength:
//   1/d = (1 - s) / factor + s,   s = (context / wavelength - low) / (high - low).
// Source: transformers' modeling_rope_utils.py.
#include "convert/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "convert/gguf_config.h"
#include "formats/error.h"
#include "formats/ggml_blocks.h"

namespace lapidary {
namespace {

constexpr double kNever = 1e29;      // llama.cpp writes 1e30 for a pair that does not rotate
constexpr double kTolerance = 2e-5;  // float32 divisors of numbers computed in float32 or float64
constexpr const char* kTensor = "rope_freqs.weight";

std::vector<float> read_divisors(const GgufSet& file, size_t index, int head_dim) {
  const GgufTensor& t = file.tensor(index);
  if (t.type != GgmlType::kF32 || t.shape != std::vector<int64_t>{head_dim / 2})
    fail(ErrorCode::kBadData, "tensor {}: expected {} float32 numbers", kTensor, head_dim / 2);
  std::vector<float> divisors(static_cast<size_t>(head_dim / 2));
  decode_blocks(t.type, file.rows(index, 0, 1), divisors);
  for (const float d : divisors)
    if (!(d > 0) || !std::isfinite(d))
      fail(ErrorCode::kBadData, "tensor {}: {} is no divisor of a frequency", kTensor, d);
  return divisors;
}

double wavelength(const RopeConfig& rope, size_t i, int head_dim) {
  return 2 * std::numbers::pi * std::pow(rope.theta, 2.0 * static_cast<double>(i) / head_dim);
}

double llama3_divisor(const RopeConfig& rope, double length) {
  const double turns = static_cast<double>(rope.original_context) / length;
  if (turns > rope.high_freq_factor) return 1;
  if (turns < rope.low_freq_factor) return rope.factor;
  const double s = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return 1 / ((1 - s) / rope.factor + s);
}

bool gives(const RopeConfig& rope, const std::vector<float>& divisors, int head_dim) {
  for (size_t i = 0; i < divisors.size(); ++i)
    if (std::abs(llama3_divisor(rope, wavelength(rope, i, head_dim)) / divisors[i] - 1) >
        kTolerance)
      return false;
  return true;
}

// s is (context / (high - low)) / wavelength - low / (high - low): two numbers from the blended
// frequencies. low is 1 in every released model, which settles the rest.
bool solve_blend(const std::vector<float>& divisors, int head_dim, RopeConfig* rope) {
  std::vector<std::pair<double, double>> points;  // 1 / wavelength, s
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double s = (1 / divisors[i] - 1 / rope->factor) / (1 - 1 / rope->factor);
    if (s > 1e-4 && s < 1 - 1e-4) points.emplace_back(1 / wavelength(*rope, i, head_dim), s);
  }
  if (points.size() < 2) return false;
  const auto [x0, s0] = points.front();
  const auto [x1, s1] = points.back();
  const double slope = (s1 - s0) / (x1 - x0), low = slope * x0 - s0;  // of high - low
  rope->low_freq_factor = 1;
  rope->high_freq_factor = std::round((1 + 1 / low) * 1024) / 1024;
  rope->original_context = std::llround(slope / low);
  return rope->original_context > 0 && gives(*rope, divisors, head_dim);
}

// Too few frequencies lie between the zones: the numbers of released models, one after another.
bool try_known(const std::vector<float>& divisors, int head_dim, RopeConfig* rope) {
  rope->low_freq_factor = 1;
  rope->high_freq_factor = 4;
  for (int64_t context = 32; context <= (int64_t{1} << 20); context *= 2) {
    rope->original_context = context;
    if (gives(*rope, divisors, head_dim)) return true;
  }
  return false;
}

}  // namespace

RopeConfig with_rope_divisors(const GgufSet& file, RopeConfig rope, int head_dim) {
  const int64_t index = find_tensor(file, kTensor);
  if (index < 0) return rope;
  const std::vector<float> divisors = read_divisors(file, static_cast<size_t>(index), head_dim);
  const auto rotated = static_cast<size_t>(
      std::find_if(divisors.begin(), divisors.end(), [](float d) { return d > kNever; }) -
      divisors.begin());
  const float first = divisors.front();
  const bool flat = std::all_of(divisors.begin(), divisors.begin() + static_cast<int64_t>(rotated),
                                [&](float d) { return d == first; });
  const bool rest_never = std::all_of(divisors.begin() + static_cast<int64_t>(rotated),
                                      divisors.end(), [](float d) { return d > kNever; });
  if (rotated > 0 && flat && rest_never) {
    rope.factor *= first;
    if (rotated == divisors.size()) return rope;
    rope.kind = RopeKind::kProportional;
    rope.rotated_fraction = 2.0 * static_cast<double>(rotated) / head_dim;
    return rope;
  }
  rope.kind = RopeKind::kLlama3;
  rope.factor = *std::max_element(divisors.begin(), divisors.end());
  if (rope.factor > 1 && rope.factor < kNever &&
      (try_known(divisors, head_dim, &rope) || solve_blend(divisors, head_dim, &rope)))
    return rope;
  fail(ErrorCode::kBadData, "tensor {}: divisors that no known scaling of RoPE gives", kTensor);
}

}  // namespace lapidary
