// The search for a block's scale, and the walk over a model that ends early where nothing fits.
#include "quantize/lattice.h"

#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "formats/lap_copy.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

// Half a bf16 step is at most 2^-8 of a value, an fp16 step at least 2^-11 of a scale; and one more
// for the rounding of the quotient.
constexpr int kNeighbours = 9;
constexpr int64_t kRowsAtOnce = 64;

float image(Code stored, float value) {
  return stored == Code::kBF16 ? bf16_to_float(float_to_bf16(value)) : value;
}

// Every weight is the image of a level times `scale`.
bool fits(std::span<const float> x, Code stored, float scale, int low, int high,
          LatticeBlock* block) {
  for (size_t i = 0; i < x.size(); ++i) {
    const float level = std::nearbyint(x[i] / scale);
    if (!(level >= static_cast<float>(low) && level <= static_cast<float>(high)) ||
        image(stored, level * scale) != x[i])
      return false;
    block->levels[i] = static_cast<int8_t>(level);
  }
  return true;
}

bool is_zero(std::span<const float> x) {
  return std::all_of(x.begin(), x.end(), [](float v) { return v == 0; });
}

}  // namespace

bool imports_lattices(Code code) {
  return traits(code).scale_k == kGroupK && !traits(code).is_trellis;
}

std::optional<LatticeBlock> fit_lattice(Code code, Code stored, std::span<const float> x) {
  LAPIDARY_CHECK(x.size() <= static_cast<size_t>(kGroupK));
  LatticeBlock block;
  if (is_zero(x)) return block;
  const int low = levels(code).front(), high = levels(code).back();
  float extreme = 0;
  for (const float v : x)
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  const int reach = stored == Code::kBF16 ? kNeighbours : 0;
  // From the outermost level on: a scale that is half of another fits too, and is not wanted last.
  for (int level = -low; level >= 1; --level)
    for (const int sign : {-1, 1}) {
      if (sign * level > high) continue;
      const float target = extreme / static_cast<float>(sign * level);
      const int nearest = float_to_f16(target);
      for (int step = 0; step <= 2 * reach; ++step) {  // 0, 1, -1, 2, -2, ...
        const int bits = nearest + (step % 2 ? (step + 1) / 2 : -step / 2);
        const float scale = f16_to_float(static_cast<uint16_t>(bits));
        if (bits < 0 || bits > 0xFFFF || !std::isfinite(scale) || scale == 0) continue;
        if (image(stored, static_cast<float>(sign * level) * scale) != extreme) continue;
        if (!fits(x, stored, scale, low, high, &block)) continue;
        block.scale = static_cast<uint16_t>(bits);
        return block;
      }
    }
  return std::nullopt;
}

std::optional<Code> lattice_code(const ModelSource& source, size_t tensor) {
  const SourceTensor& t = source.tensors()[tensor];
  // Records of a row table stand alone, each with blocks of its own.
  const bool is_table = t.name == kPleTensor;
  const int64_t k = is_table ? source.metadata().config.ple_width : t.k();
  std::vector<Code> candidates{Code::kW4x, Code::kW8x};
  std::vector<float> rows(static_cast<size_t>(kRowsAtOnce * t.k()));
  bool any = false;
  for (int64_t first = 0; first < t.rows(); first += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, t.rows() - first) * (t.k() / k);
    const auto here = std::span(rows).first(static_cast<size_t>(count * k));
    source.read_rows(tensor, first, count / (t.k() / k), here);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t at = 0; at < k; at += kGroupK) {
        const auto block = here.subspan(static_cast<size_t>(r * k + at),
                                        static_cast<size_t>(std::min<int64_t>(kGroupK, k - at)));
        any |= !is_zero(block);
        while (!candidates.empty() && !fit_lattice(candidates.front(), t.code, block))
          candidates.erase(candidates.begin());
        if (candidates.empty()) return std::nullopt;
      }
  }
  if (!any) return std::nullopt;
  return candidates.front();
}

std::vector<LatticeFinding> find_lattices(const ModelSource& source, const QuantizeOptions& options,
                                          const Events& events) {
  const std::vector<LapTensor> plan = plan_tensors(source, options);
  std::vector<LatticeFinding> findings;
  for (size_t i = 0; i < plan.size(); ++i) {
    events.poll();
    const Code from = source.tensors()[i].code;
    if (traits(plan[i].code).is_float || !traits(from).is_float || is_kept(plan[i].name, options))
      continue;
    const std::optional<Code> code = lattice_code(source, i);
    if (!code) continue;
    LapTensor exact = plan[i];
    exact.code = *code;
    exact.rotated = false;
    findings.push_back({plan[i].name, *code, stored_bytes(exact), plan[i].bytes});
  }
  return findings;
}

}  // namespace lapidary
