// Rounding panel by panel, and the product with a gradient that goes straight through.
#include "finetune/merge_aware.h"

#include <ATen/ATen.h>

#include "finetune/lora.h"
#include "finetune/packed_linear.h"
#include "formats/error.h"

namespace lapidary {
namespace {

constexpr size_t kAlignment = 64;  // what kernels want of codes

}  // namespace

void MergedMatrices::refresh(LoraSet& lora, const PanelRounding& rounding, FrozenWeights& weights) {
  const PeftAdapter adapter = lora.to_peft();
  for (LoraWeights& w : lora.modules()) {
    const LoraModule& module =
        *std::find_if(adapter.modules.begin(), adapter.modules.end(),
                      [&](const LoraModule& candidate) { return candidate.module == w.module; });
    for (size_t expert = 0; expert < w.parts.size(); ++expert) {
      LoraPart& part = w.parts[expert];
      const MatrixView& base = *part.matrix;
      if (traits(base.code).is_float) continue;
      const PackedGeometry g = packed_geometry(base.code, base.rows, base.k);
      Matrix& m = matrices_[part.matrix];
      m.bytes.resize(static_cast<size_t>(g.code_bytes + g.meta_bytes) + kAlignment);
      const auto address = reinterpret_cast<uintptr_t>(m.bytes.data());
      uint8_t* codes = m.bytes.data() + (kAlignment - address % kAlignment) % kAlignment;
      uint8_t* meta = codes + g.code_bytes;
      weights.parallel(g.n_panels, [&](int64_t panel) {
        rounding(module, static_cast<int64_t>(expert), g, base.rotated, panel * kPanelRows,
                 {codes + panel * g.panel_code_bytes, static_cast<size_t>(g.panel_code_bytes)},
                 {meta + panel * g.panel_meta_bytes, static_cast<size_t>(g.panel_meta_bytes)});
      });
      m.view = base;
      m.view.codes = codes;
      m.view.meta = meta;
      part.merged = &m.view;
    }
  }
}

at::Tensor merged_linear(FrozenWeights& weights, const LoraPart& lora, const at::Tensor& x) {
  const at::Tensor y = packed_linear(weights, *lora.merged, x);
  if (!at::GradMode::is_enabled()) return y;
  // Adds exactly zero, but with a gradient for A and B. x has its gradient from y alone.
  const at::Tensor update = at::mm(at::mm(x.detach(), lora.a.t()), lora.b.t()) * lora.scale;
  return y + (update - update.detach());
}

}  // namespace lapidary
